"""What this machine can do, measured: versions, device, threads, matrix speed, memory bandwidth, disk."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import descent
from descent.errors import UserError
from descent.runs.environment import processor, version

if TYPE_CHECKING:
    import torch

__all__ = ["examine"]

PACKAGES = (
    "torch",
    "numpy",
    "safetensors",
    "tokenizers",
    "pydantic",
    "scikit-learn",
    "matplotlib",
    "transformers",
)
COPIED = 512 * 2**20
SECONDS = 0.6


def examine(measure: bool = True) -> dict[str, Any]:
    """Facts about the machine and what Descent finds on it.

    Args:
        measure: measures matrix speed and memory bandwidth too (some seconds at full load).

    Returns:
        `versions`, `machine` (threads, memory in bytes), `device`, `speed` (GFLOP/s of a square matrix
        product by dtype, GB/s of a copy counting the bytes read and written), `disk` (free bytes by
        folder) and `data` (the folder in DESCENT_DATA, and which data sets are whole, absent or wrong).
    """
    found: dict[str, Any] = {
        "versions": _versions(),
        "machine": _machine(),
        "device": _device(),
        "disk": _disk(),
        "data": _data(),
    }
    if measure:
        found["speed"] = _speed(found["device"]["type"], found["machine"]["memory_available"])
    return found


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"descent": descent.__version__, "python": platform.python_version()}
    return found | {package: version(package) for package in PACKAGES}


def _machine() -> dict[str, Any]:
    import torch

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    total, free = _memory()
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": available,
        "threads": torch.get_num_threads(),
        "memory": total,
        "memory_available": free,
    }


def _memory() -> tuple[int | None, int | None]:
    """Bytes of memory, all of it and what is free, within the limit of a container if there is one."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    except (AttributeError, ValueError, OSError):
        return None, None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="utf-8"))
        total, free = min(total, limit), min(free, limit - used)
    except (OSError, ValueError, StopIteration):
        return total, free
    return total, free


def _device() -> dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return {"type": "cuda", "name": properties.name, "memory": properties.total_memory}
    if torch.backends.mps.is_available():
        return {"type": "mps", "name": platform.machine(), "memory": None}
    return {"type": "cpu", "name": torch.backends.cpu.get_cpu_capability(), "memory": None}


def _disk() -> dict[str, Any]:
    return {"current": _free(Path.cwd()), "cache": _free(_cache_folder())}


def _cache_folder() -> Path:
    from descent.data.download import cache_folder

    return cache_folder()


def _free(folder: Path) -> dict[str, Any]:
    """Free bytes where a folder is, or would be made."""
    place = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    return {"folder": str(folder), "free": shutil.disk_usage(place).free}


def _data() -> dict[str, Any]:
    """Which data sets are whole on this machine, which would be downloaded, and what is wrong."""
    from descent.data.registry import ENTRIES, show

    ready, absent, wrong = [], [], {}
    for name, entry in ENTRIES.items():
        try:
            here = entry.embedded or all(file["path"] for file in show(name)["files"])
        except UserError as error:
            wrong[name] = error.what
        else:
            (ready if here else absent).append(name)
    return {"DESCENT_DATA": os.environ.get("DESCENT_DATA"), "ready": ready, "absent": absent, "wrong": wrong}


def _speed(device: str, free: int | None) -> dict[str, Any]:
    import torch

    speeds = {
        name: _matrix(device, getattr(torch, kind))
        for name, kind in (("fp32", "float32"), ("bf16", "bfloat16"))
    }
    enough = free is None or free > 3 * COPIED
    return {
        "matrix_gflops": speeds,
        "copy_gigabytes_per_second": _copy(device) if enough else None,
    }


def _matrix(device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of the best product of two square matrices within the time given."""
    import torch

    size = 2048 if device == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    with torch.inference_mode():
        seconds = _fastest(lambda: torch.mm(left, right), device)
    return round(2 * size**3 / seconds / 1e9, 1)


def _copy(device: str) -> float:
    import torch

    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    return round(2 * COPIED / _fastest(lambda: target.copy_(source), device) / 1e9, 1)


def _fastest(work: Callable[[], Any], device: str) -> float:
    """Seconds of the quickest of several runs, after one to warm up."""
    import torch

    wait = (
        importlib.import_module(f"torch.{device}").synchronize if device != "cpu" else torch.cpu.synchronize
    )
    work()
    wait()
    times, end = [], time.perf_counter() + SECONDS
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return min(times)
