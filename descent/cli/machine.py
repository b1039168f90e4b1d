"""`descent doctor`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from descent.cli.terminal import note, print_json, print_pairs
from descent.runs.progress import format_bytes


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="Look")(doctor)


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Measure nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show versions, device, measured speed, memory, free disk and data of this machine."""
    from descent.doctor import examine

    if not quick:
        note("measuring for a few seconds ...")
    found = examine(measure=not quick)
    if as_json:
        print_json(found)
    else:
        print_pairs(_lines(found))


def _lines(found: dict[str, Any]) -> list[tuple[str, object]]:
    machine, device, data = found["machine"], found["device"], found["data"]
    memory = [_bytes(device["memory"])] if device["memory"] else []
    lines: list[tuple[str, object]] = [
        (name, version or "not installed") for name, version in found["versions"].items()
    ]
    lines += [
        ("system", machine["system"]),
        ("processor", machine["processor"]),
        ("threads", f"{machine['threads']} on {machine['cores']} cores"),
        ("memory", f"{_bytes(machine['memory_available'])} free of {_bytes(machine['memory'])}"),
        ("device", ", ".join([device["type"], device["name"], *memory])),
    ]
    if "speed" in found:
        speeds, copy = found["speed"]["matrix_gflops"], found["speed"]["copy_gigabytes_per_second"]
        lines += [(f"matrix {kind}", f"{speed:,.0f} GFLOP/s") for kind, speed in speeds.items()]
        lines.append(("memory copy", f"{copy} GB/s" if copy else "not measured: too little free memory"))
    lines += [
        (f"disk {name}", f"{_bytes(part['free'])} free, {part['folder']}")
        for name, part in found["disk"].items()
    ]
    lines += [("DESCENT_DATA", data["DESCENT_DATA"] or "not set")]
    lines += [
        ("data here", ", ".join(data["ready"]) or "none"),
        ("to download", ", ".join(data["absent"]) or "none"),
    ]
    lines += [("data wrong", what) for what in dict.fromkeys(data["wrong"].values())]
    return lines


def _bytes(count: int | None) -> str:
    return "?" if count is None else format_bytes(count)
