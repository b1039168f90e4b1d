"""The recurrence of the cells over time, with gradients by hand: back-propagation through time.

Autograd would keep and replay some ten small operations a step. Here the forward pass keeps the gates and the
states in buffers made once, and the backward pass goes through them; the weights are laid out for oneDNN
once a pass, and what does not depend on the step before (the gradient of U) is one product over all steps.
Matrix products are in bfloat16 under autocast; gates, states and sums are in single precision.

Legend: T time, B batch, H hidden units, G gates times H.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from descent.nn.cells import Cell
from descent.nn.packed import can_pack

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input
FEW = 4
"""Products too few to lay out a matrix for."""


def recurrence(
    cell: Cell,
    projected: Float[Tensor, "time batch gates"],
    weight: Float[Tensor, "gates hidden"],
    bias: Float[Tensor, " gates"],
    hidden: Float[Tensor, "batch hidden"],
    state: Float[Tensor, "batch hidden"] | None = None,
    keep: Bool[Tensor, "time batch"] | None = None,
) -> tuple[Float[Tensor, "time batch hidden"], Float[Tensor, "time batch hidden"] | None]:
    """All hidden states, and of an LSTM all cell states.

    Args:
        projected: W x + b for every step.
        weight, bias: U and d, rows as in `cells.GATES`.
        hidden: h before the first step.
        state: c before the first step, of an LSTM.
        keep: False = the state is zero before this step.
    """
    kind = projected.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    if cell != "gru":  # one addition for all steps
        projected = projected + bias.to(projected.dtype)
    mask = None if keep is None else keep[:, :, None].to(hidden.dtype)
    with torch.autocast(kind, enabled=False):
        if cell == "lstm":
            assert state is not None
            return _LSTM.apply(projected, weight, hidden, state, mask, dtype)
        if cell == "gru":
            return _GRU.apply(projected, weight, bias, hidden, mask, dtype), None
        return _Elman.apply(projected, weight, hidden, mask, dtype, cell), None


def _product(matrix: Tensor, dtype: torch.dtype, times: int) -> Callable[[Tensor], Tensor]:
    """x -> x A^T for (B, in) and A (out, in), to be called so many times."""
    held = matrix.detach().to(dtype)
    if times >= FEW and can_pack(held, dtype):
        packed = torch.ops.mkldnn._reorder_linear_weight(held.contiguous(), 1)
        run = torch.ops.mkldnn._linear_pointwise
        return lambda x: run(x.to(dtype), packed, None, "none", [], "")
    return lambda x: x.to(dtype) @ held.t()


class _LSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        weight: Tensor,
        hidden: Tensor,
        cell: Tensor,
        mask: Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        time, batch, _ = projected.shape
        size = weight.shape[1]
        times_u = _product(weight, dtype, time)
        gates_TBG = projected.to(hidden.dtype, copy=True)
        # the state a step starts from, at its own index; the one after the last step at index T
        hidden_TBH = hidden.new_empty(time + 1, batch, size)
        cell_TBH, tanh_TBH = torch.empty_like(hidden_TBH), hidden.new_empty(time, batch, size)
        hidden_TBH[0], cell_TBH[0] = hidden, cell
        outputs_TBH = (hidden_TBH[1:], cell_TBH[1:]) if mask is None else None
        if mask is not None:
            outputs_TBH = torch.empty_like(tanh_TBH), torch.empty_like(tanh_TBH)
        assert outputs_TBH is not None
        for t in range(time):
            if mask is not None:
                hidden_TBH[t] *= mask[t]
                cell_TBH[t] *= mask[t]
            gates = gates_TBG[t]
            gates += times_u(hidden_TBH[t])
            i, f, g, o = gates.chunk(4, dim=1)
            gates[:, : 2 * size].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            after = torch.mul(f, cell_TBH[t], out=cell_TBH[t + 1])
            after.addcmul_(i, g)
            torch.tanh(after, out=tanh_TBH[t])
            torch.mul(o, tanh_TBH[t], out=hidden_TBH[t + 1])
            if mask is not None:
                outputs_TBH[0][t], outputs_TBH[1][t] = hidden_TBH[t + 1], after
        ctx.save_for_backward(gates_TBG, hidden_TBH, cell_TBH, tanh_TBH, weight, mask)
        ctx.dtype, ctx.projected = dtype, projected.dtype
        ctx.set_materialize_grads(False)
        return outputs_TBH

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        gates_TBG, hidden_TBH, cell_TBH, tanh_TBH, weight, mask = ctx.saved_tensors
        by_hidden_TBH, by_cell_TBH = grads
        time, batch, size = tanh_TBH.shape
        times_u = _product(weight.t(), ctx.dtype, time)
        by_gates_TBG = torch.empty(time, batch, 4 * size, dtype=ctx.dtype, device=weight.device)
        dh, dc = torch.zeros_like(hidden_TBH[0]), torch.zeros_like(hidden_TBH[0])
        d_gates, work = torch.empty_like(gates_TBG[0]), torch.empty_like(dh)
        di, df, dg, do = d_gates.chunk(4, dim=1)
        for t in range(time - 1, -1, -1):
            gates, tanh = gates_TBG[t], tanh_TBH[t]
            i, f, g, o = gates.chunk(4, dim=1)
            if by_hidden_TBH is not None:
                dh += by_hidden_TBH[t]
            if by_cell_TBH is not None:
                dc += by_cell_TBH[t]
            torch.mul(dh, o, out=work)
            dc += tanh_backward(work, tanh, grad_input=work)
            torch.mul(dc, g, out=di)
            torch.mul(dc, cell_TBH[t], out=df)
            torch.mul(dc, i, out=dg)
            torch.mul(dh, tanh, out=do)
            first = d_gates[:, : 2 * size]
            sigmoid_backward(first, gates[:, : 2 * size], grad_input=first)
            tanh_backward(dg, g, grad_input=dg)
            sigmoid_backward(do, o, grad_input=do)
            by_gates_TBG[t] = d_gates
            dh = times_u(by_gates_TBG[t]).to(dc.dtype)
            dc *= f
            if mask is not None:
                dh *= mask[t]
                dc *= mask[t]
        by_weight = _over_time(by_gates_TBG, hidden_TBH, weight)
        return by_gates_TBG.to(ctx.projected), by_weight, dh, dc, None, None


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        weight: Tensor,
        bias: Tensor,
        hidden: Tensor,
        mask: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        time, batch, _ = projected.shape
        size = weight.shape[1]
        times_u = _product(weight, dtype, time)
        gates_TBG = projected.to(hidden.dtype, copy=True)
        hidden_TBH, inner_TBH = hidden.new_empty(time + 1, batch, size), hidden.new_empty(time, batch, size)
        hidden_TBH[0] = hidden
        outputs_TBH = hidden_TBH[1:] if mask is None else torch.empty_like(inner_TBH)
        for t in range(time):
            if mask is not None:
                hidden_TBH[t] *= mask[t]
            gates, before = gates_TBG[t], hidden_TBH[t]
            from_hidden = times_u(before) + bias
            both = gates[:, : 2 * size]
            both.add_(from_hidden[:, : 2 * size]).sigmoid_()
            r, z, n = gates.chunk(3, dim=1)
            inner_TBH[t] = from_hidden[:, 2 * size :]
            n.addcmul_(r, inner_TBH[t]).tanh_()
            torch.lerp(n, before, z, out=hidden_TBH[t + 1])
            if mask is not None:
                outputs_TBH[t] = hidden_TBH[t + 1]
        ctx.save_for_backward(gates_TBG, hidden_TBH, inner_TBH, weight, mask)
        ctx.dtype, ctx.projected = dtype, projected.dtype
        return outputs_TBH

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gates_TBG, hidden_TBH, inner_TBH, weight, mask = ctx.saved_tensors
        time, batch, size = inner_TBH.shape
        times_u = _product(weight.t(), ctx.dtype, time)
        by_input_TBG = torch.empty(time, batch, 3 * size, dtype=ctx.dtype, device=weight.device)
        by_hidden_TBG = torch.empty_like(by_input_TBG)
        dh, work = torch.zeros_like(hidden_TBH[0]), torch.empty_like(gates_TBG[0])
        dr, dz, dn = work.chunk(3, dim=1)
        for t in range(time - 1, -1, -1):
            gates, before = gates_TBG[t], hidden_TBH[t]
            r, z, n = gates.chunk(3, dim=1)
            dh += grads[0][t]
            torch.mul(dh, before - n, out=dz)
            torch.sub(dh, dh * z, out=dn)
            tanh_backward(dn, n, grad_input=dn)
            torch.mul(dn, inner_TBH[t], out=dr)
            both = work[:, : 2 * size]
            sigmoid_backward(both, gates[:, : 2 * size], grad_input=both)
            by_input_TBG[t] = work
            dn *= r
            by_hidden_TBG[t] = work
            dh = (dh * z).add_(times_u(by_hidden_TBG[t]))
            if mask is not None:
                dh *= mask[t]
        by_weight = _over_time(by_hidden_TBG, hidden_TBH, weight)
        by_bias = by_hidden_TBG.sum((0, 1), dtype=weight.dtype)
        return by_input_TBG.to(ctx.projected), by_weight, by_bias, dh, None, None


class _Elman(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        weight: Tensor,
        hidden: Tensor,
        mask: Tensor | None,
        dtype: torch.dtype,
        cell: Cell,
    ) -> Tensor:
        time, batch, _ = projected.shape
        times_u = _product(weight, dtype, time)
        hidden_TBH = hidden.new_empty(time + 1, batch, weight.shape[1])
        hidden_TBH[0] = hidden
        outputs_TBH = hidden_TBH[1:] if mask is None else hidden_TBH.new_empty(time, batch, weight.shape[1])
        for t in range(time):
            if mask is not None:
                hidden_TBH[t] *= mask[t]
            after = torch.add(projected[t], times_u(hidden_TBH[t]), out=hidden_TBH[t + 1])
            after.tanh_() if cell == "tanh" else after.relu_()
            if mask is not None:
                outputs_TBH[t] = after
        ctx.save_for_backward(outputs_TBH, hidden_TBH, weight, mask)
        ctx.dtype, ctx.projected, ctx.cell = dtype, projected.dtype, cell
        return outputs_TBH

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        outputs_TBH, hidden_TBH, weight, mask = ctx.saved_tensors
        times_u = _product(weight.t(), ctx.dtype, len(outputs_TBH))
        by_projected_TBH = torch.empty_like(outputs_TBH, dtype=ctx.dtype)
        dh = torch.zeros_like(hidden_TBH[0])
        for t in range(len(outputs_TBH) - 1, -1, -1):
            dh += grads[0][t]
            if ctx.cell == "tanh":
                tanh_backward(dh, outputs_TBH[t], grad_input=dh)
            else:
                dh *= outputs_TBH[t] > 0
            by_projected_TBH[t] = dh
            dh = times_u(by_projected_TBH[t]).to(hidden_TBH.dtype)
            if mask is not None:
                dh *= mask[t]
        by_weight = _over_time(by_projected_TBH, hidden_TBH, weight)
        return by_projected_TBH.to(ctx.projected), by_weight, dh, None, None, None


def _over_time(by_gates: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
    """The gradient of U: the sum over steps and rows of the gates' gradient times the state before."""
    before = hidden[:-1].flatten(0, 1).to(by_gates.dtype)
    return (by_gates.flatten(0, 1).t() @ before).to(weight.dtype)
