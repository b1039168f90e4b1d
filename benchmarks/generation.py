"""Speed of cached generation with GPT-2 124M beside transformers' `generate`.

    python -m benchmarks.generation [--batch 1 8] [--rounds N] [--json FILE]

The weights are random, since only their number matters. Every system continues the same prompts greedily by
the same number of tokens; a round is one call that does so, the prompts' prefill included. A step reads
every weight once, so beside tokens per second the table says what share of the memory's speed that is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.contest import Result, System, contest
from benchmarks.report import enter, number, print_table, write_json
from descent.generation import Settings, generate
from descent.generation.prepare import prepare
from descent.models.gpt import GPT, GPTConfig
from descent.training.precision import tune_allocator

OURS, MEMORY = "descent bf16", "memory"
VOCAB, CONTEXT = 50257, 1024
WEIGHTS = 12 * 12 * 768**2 + VOCAB * 768
"""Entries of the matrices that a step reads: 12 layers, and the head."""


def descent(batch: int, prompt: int, new: int, half: bool) -> Callable[[], float]:
    """Descent's decoder on a prepared model."""
    tune_allocator()
    torch.manual_seed(1)
    model = GPT(GPTConfig.gpt2("124M", vocab_size=VOCAB, context=CONTEXT))
    twin = prepare(model.bfloat16() if half else model)
    rows = _prompts(batch, prompt).tolist()
    settings = Settings(max_new_tokens=new, temperature=0)

    def work() -> float:
        return float(sum(len(each.tokens) for each in generate(twin, rows, settings)))

    return work


def transformers(
    batch: int, prompt: int, new: int, half: bool, cache: str | None = None, attention: str = "sdpa"
) -> Callable[[], float]:
    """transformers' `generate`.

    Args:
        cache: its `cache_implementation`; by default one that grows.
        attention: "sdpa", the default, or "eager".
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    config = GPT2Config(vocab_size=VOCAB, n_positions=CONTEXT, attn_implementation=attention)
    model = GPT2LMHeadModel(config).eval()
    model = model.bfloat16() if half else model
    tokens_BT = _prompts(batch, prompt)
    chosen = {} if cache is None else {"cache_implementation": cache}
    settings = {"min_new_tokens": new, "max_new_tokens": new, "do_sample": False, "pad_token_id": 0, **chosen}

    def work() -> float:
        with torch.inference_mode():
            out = model.generate(tokens_BT, attention_mask=torch.ones_like(tokens_BT), **settings)
        return float(out.numel() - tokens_BT.numel())

    return work


def bandwidth(megabytes: int = 512) -> Callable[[], float]:
    """Work for a contest: the speed of reading memory, in GB/s, the best of five."""
    held = torch.ones(megabytes * 2**20 // 4)

    def measure() -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            held.sum()
            times.append(time.perf_counter() - start)
        return 4 * held.numel() / min(times) / 1e9

    return measure


def _prompts(batch: int, length: int) -> Tensor:
    return torch.randint(VOCAB, (batch, length), generator=torch.Generator().manual_seed(2))


def main() -> None:
    options = _parser().parse_args()
    found = {}
    for batch in options.batch:
        start = time.perf_counter()
        given = {"batch": batch, "prompt": options.prompt, "new": options.new}
        result = contest(_entrants(given, options.only), options.rounds)
        found[str(batch)] = _summary(batch * options.new, result)
        _print(batch, options, found[str(batch)])
        minutes = round((time.perf_counter() - start) / 60, 1)
        enter(options.ledger, _entries(batch, options, found[str(batch)], minutes))
    write_json(options.json, {"generation": found})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--prompt", type=int, default=32, help="tokens of each prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens generated for each prompt")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", metavar="TEXT", nargs="*", default=[], help="peers whose name holds a text")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--ledger", metavar="FOLDER", help="write entries of the ledger there")
    return parser


def _entrants(given: dict[str, Any], only: list[str]) -> list[System]:
    half = {**given, "half": True}
    others = [
        System("descent fp32", descent, {**given, "half": False}),
        System("transformers bf16", transformers, half),
        System("transformers bf16, eager", transformers, {**half, "attention": "eager"}),
        System("transformers bf16, static", transformers, {**half, "cache": "static"}),
        System("transformers fp32", transformers, {**given, "half": False}),
    ]
    chosen = [other for other in others if not only or any(text in other.name for text in only)]
    return [System(OURS, descent, half), *chosen, System(MEMORY, bandwidth, {})]


def _summary(tokens: int, result: Result) -> dict[str, Any]:
    speed = max(value for value in result.values[MEMORY] if value is not None)
    names = [name for name in result.seconds if name != MEMORY]
    found = {}
    for name in names:
        counted = set(result.values[name])
        if counted != {float(tokens)}:
            raise RuntimeError(f"{name} generated {counted} tokens, {tokens} were asked for")
        rate = result.rate(name, tokens)
        found[name] = {
            "tokens_per_second": rate.table(),
            "times": None if name == OURS else result.ratio(OURS, name).table(),
            "seconds": [round(seconds, 4) for seconds in result.seconds[name]],
        }
    peers = [name for name in names if name.startswith("transformers bf16")]
    return {
        "memory_gigabytes_per_second": round(speed, 2),
        "fastest_peer": result.best(peers) if peers else None,
        "rounds": len(result.seconds[OURS]),
        "systems": found,
    }


def _memory_share(batch: int, name: str, rate: float, speed: float) -> float:
    """The share of the memory's speed that reading the weights once a step amounts to."""
    size = 2 if "bf16" in name else 4
    return rate / batch * size * WEIGHTS / 1e9 / speed


def _print(batch: int, options: argparse.Namespace, found: dict[str, Any]) -> None:
    speed = found["memory_gigabytes_per_second"]
    print(
        f"\nGPT-2 124M, batch {batch}, {options.prompt} tokens continued by {options.new}, "
        f"{found['rounds']} rounds; memory {speed:.1f} GB/s"
    )
    rows = []
    for name, each in found["systems"].items():
        rate, times = each["tokens_per_second"], each["times"]
        rows.append(
            [
                name,
                number(rate["median"], 1),
                f"{number(rate['least'], 1)} - {number(rate['greatest'], 1)}",
                f"{_memory_share(batch, name, rate['median'], speed):.0%}",
                f"{times['median']:.2f}" if times else "",
                f"{times['least']:.2f} - {times['greatest']:.2f}" if times else "",
            ]
        )
    print_table(["system", "tokens/s", "spread", "of memory", "descent is x times", "spread"], rows)
    if found["fastest_peer"]:
        print(f"fastest peer in bf16: {found['fastest_peer']}")


def _entries(
    batch: int, options: argparse.Namespace, found: dict[str, Any], minutes: float
) -> list[dict[str, Any]]:
    """The entries of the ledger: our rate, and the ratio to the fastest peer."""
    ours, fastest = found["systems"][OURS]["tokens_per_second"], found["fastest_peer"]
    flops = 2 * WEIGHTS * batch * (options.prompt + options.new)
    shared = {"minutes": minutes, "flops": flops * found["rounds"]}
    entries = [
        {
            "id": f"generation-gpt2-124m-batch{batch}-rate",
            "what": f"cached generation with GPT-2 124M in bf16, batch {batch}",
            "metric": "tokens per second",
            "value": ours["median"],
            "spread": [ours["least"], ours["greatest"]],
            "unit": "tokens/s",
            "note": f"{options.prompt} tokens continued by {options.new}, prefill included; "
            f"memory read at {found['memory_gigabytes_per_second']} GB/s",
            **shared,
        }
    ]
    if fastest:
        times = found["systems"][fastest]["times"]
        entries.append(
            {
                "id": f"generation-gpt2-124m-batch{batch}-against-transformers",
                "what": f"cached generation with GPT-2 124M, batch {batch}, compared with {fastest}",
                "metric": "times as fast",
                "value": times["median"],
                "spread": [times["least"], times["greatest"]],
                "unit": "times",
                "note": f"measured in turn; median of {found['rounds']} pairwise ratios, "
                "spread from least to greatest",
                **shared,
            }
        )
    return entries


if __name__ == "__main__":
    main()
