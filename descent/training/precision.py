"""Where and in what precision to compute, and how the process asks the system for memory."""

from __future__ import annotations

import ctypes
import functools
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from descent.errors import UserError

Precision = Literal["fp32", "bf16"]

# Options of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        UserError: the device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, found in there.items() if found))
    if name not in there:
        raise UserError("no such device", got=name, expected="auto, cpu, cuda or mps")
    if not there[name]:
        found = ", ".join(device for device, found in there.items() if found)
        raise UserError(f"this machine, or this build of torch, has no {name}", expected=f"auto or {found}")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> Precision:
    """`fp32` or `bf16`; `auto` measures on this machine, once a process, which is the faster.

    Raises:
        UserError: the name is none of the three.
    """
    if name == "fp32" or name == "bf16":
        return name
    if name != "auto":
        raise UserError("no such precision", got=name, expected="auto, fp32 or bf16")
    return "bf16" if bf16_gain(str(device)) > 1.1 else "fp32"


@functools.cache
def bf16_gain(device: str, size: int = 768) -> float:
    """How many times faster a matrix product is in bfloat16 than in float32; takes about 0.3 s.

    The product is `size` squared; the float32 operands are converted first, as autocast does. The two are
    timed in turns and the fastest of each counts, so that another process at work slows both alike.
    """
    left, right = torch.randn(2, size, size, device=device)
    try:
        torch.mm(left.bfloat16(), right.bfloat16())
    except RuntimeError:  # a device without bfloat16
        return 0.0
    single, half = _fastest(
        [lambda: left @ right, lambda: left.bfloat16() @ right.bfloat16()], device, budget=0.25
    )
    return single / half


def _fastest(works: Sequence[Callable[[], Any]], device: str, budget: float) -> list[float]:
    """Seconds of the fastest run of each, in turns as often as fits into `budget` after one to warm up."""
    fastest, rounds, end = [float("inf")] * len(works), 0, time.perf_counter() + budget
    while rounds < 4 or (time.perf_counter() < end and rounds < 50):
        for place, work in enumerate(works):
            start = time.perf_counter()
            work()
            _wait(device)
            if rounds:
                fastest[place] = min(fastest[place], time.perf_counter() - start)
        rounds += 1
    return fastest


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    elif device.startswith("mps"):
        torch.mps.synchronize()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context to run a forward in: matrix products in bfloat16, or nothing for `fp32`."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def tune_allocator() -> bool:
    """Lets the C library keep freed memory instead of giving it back to the system each time.

    A training step frees and asks for the same large blocks again and again. By default glibc maps
    each from the kernel, which has to fill it with zeros page by page: at the shape of GPT-2 124M a
    million page faults a step, and over half of its time. So blocks of any size come from the heap, and the
    heap is never trimmed. Other C libraries have no such knob and are left alone, and so is a process
    whose user has set glibc's variables.

    Returns:
        Whether anything was changed.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (only glibc has it)
        mallopt = library.mallopt
    except (OSError, AttributeError, TypeError):
        return False
    never = -1  # taken as the largest size there is
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, never) and mallopt(M_TOP_PAD, 64 << 20))
