"""How fast this machine multiplies matrices: the ceiling that shares are shares of.

    python -m benchmarks.matmul [--json FILE]

The shapes are those of a step of GPT-2 124M, forward and backward.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.report import number, print_table, write_json

SHAPES: dict[str, tuple[int, int, int]] = {  # rows x inner x columns
    "query, key, value": (2048, 768, 2304),
    "attention's output": (2048, 768, 768),
    "feed-forward, up": (2048, 768, 3072),
    "feed-forward, down": (2048, 3072, 768),
    "head": (2048, 768, 50304),
}
"""Products of a step of GPT-2 124M with 2,048 tokens."""

FORMS: dict[str, tuple[bool, bool]] = {  # whether left and right are read transposed, as PyTorch does it
    "forward": (False, True),
    "input's gradient": (False, False),
    "weight's gradient": (True, False),
}


def gflops(shape: tuple[int, int, int], form: str, dtype: torch.dtype, seconds: float = 0.25) -> float:
    """GFLOP/s of the quickest product of those that fit into `seconds`, two at least, after a warm-up."""
    rows, inner, columns = _sizes(shape, form)
    left_transposed, right_transposed = FORMS[form]
    left = torch.randn(inner, rows).to(dtype).t() if left_transposed else torch.randn(rows, inner).to(dtype)
    right = (
        torch.randn(columns, inner).to(dtype).t()
        if right_transposed
        else torch.randn(inner, columns).to(dtype)
    )
    out = torch.empty(rows, columns, dtype=dtype)
    return 2 * rows * inner * columns / _quickest(lambda: torch.mm(left, right, out=out), seconds) / 1e9


def ceiling(seconds: float = 0.5) -> Callable[[], float]:
    """Work for a contest: the best bfloat16 product of the layers' shapes, in GFLOP/s."""
    layers = [shape for name, shape in SHAPES.items() if name != "head"]

    def measure() -> float:
        return max(gflops(shape, "forward", torch.bfloat16, seconds / len(layers)) for shape in layers)

    return measure


def _sizes(shape: tuple[int, int, int], form: str) -> tuple[int, int, int]:
    """The same numbers in the order in which a product of the backward pass has them."""
    rows, inner, columns = shape
    if form == "input's gradient":
        return rows, columns, inner
    return (columns, rows, inner) if form == "weight's gradient" else shape


def _quickest(work: Callable[[], object], seconds: float) -> float:
    work()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matmul", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the numbers there, too")
    options = parser.parse_args()
    found = {
        f"{name}, {form}": {
            "shape": _sizes(shape, form),
            "bf16": gflops(shape, form, torch.bfloat16),
            "fp32": gflops(shape, form, torch.float32) if name != "head" else None,
        }
        for name, shape in SHAPES.items()
        for form in FORMS
    }
    print(f"GFLOP/s of matrix products on {torch.get_num_threads()} threads")
    rows = [
        [name, " x ".join(map(str, each["shape"])), number(each["bf16"]), number(each["fp32"])]
        for name, each in found.items()
    ]
    print_table(["product", "shape", "bf16", "fp32"], rows)
    write_json(options.json, {"gflops": found})


if __name__ == "__main__":
    main()
