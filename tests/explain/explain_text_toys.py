"""Small Transformers over text, every parameter at random, and texts with characters of several tokens."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from descent.models import build, config_class
from descent.nn.attention import Attention
from descent.runs.loaded import Loaded
from descent.text import Tokenizer, train

TEXT = "ab 好a"
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt": ("gpt", {"dim": 24, "heads": 4, "groups": 2, "context": 64, "value_embedding": True}),
    "gpt2": (
        "gpt",
        {"dim": 24, "heads": 3, "context": 64, "position": "learned", "norm": "layer", "bias": True,
         "qk_norm": False, "tied": True, "embedding_norm": False, "feedforward": "gelu", "softcap": 0.0},
    ),
    "llama": ("llama", {"dim": 24, "heads": 4, "groups": 2, "hidden": 28, "context": 64}),
    "bert": ("bert", {"dim": 24, "heads": 3, "context": 64}),
    "bert of 2019": (
        "bert",
        {"dim": 24, "heads": 3, "position": "learned", "order": "post", "feedforward": "gelu", "bias": True,
         "context": 64, "attention_dropout": 0.2},
    ),
    "t5": ("t5", {"dim": 24, "heads": 3, "buckets": 8, "max_distance": 9, "dropout": 0.2}),
    "transformer": ("transformer", {"dim": 24, "heads": 3}),
    "transformer with norms before": ("transformer", {"dim": 24, "heads": 3, "order": "pre"}),
}  # fmt: skip
CROSSED = ("t5", "transformer", "transformer with norms before")
BERTS = ("bert", "bert of 2019")


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    """A tokenizer that knows no Chinese, so that its characters are three tokens each."""
    marks: Any = {"bert": "bert", "t5": "t5"}.get(kind, "document")
    return train("bpe", ["ab ab aab <b> the cat sat"], 380 if marks == "t5" else 290, marks=marks)


def loaded_of(name: str, seed: int = 3, **changes: Any) -> Loaded:
    """A model ready for use, in training mode as a run's may be."""
    kind, sizes = SIZES[name]
    tokenizer = tokenizer_of(kind)
    config = config_class(kind).read({"depth": 2, **sizes, "vocab_size": tokenizer.vocab_size, **changes})
    torch.manual_seed(seed)
    model = build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    preparation: dict[str, Any] = {"kind": "text", "start": [tokenizer.end], "marked": True}
    if kind in ("t5", "transformer"):
        start = tokenizer.pad if kind == "t5" else tokenizer.end
        preparation = {"kind": "pairs", "start": [start], "length": 64}
    if kind == "bert":
        preparation = {"kind": "masked", "length": 64}
    return Loaded(model, config, tokenizer, preparation=preparation, name=name)


def batch_of(name: str, layout: str) -> dict[str, Tensor]:
    """Inputs of `features`: rows of several documents, or rows filled up."""
    torch.manual_seed(8)
    tokens = torch.randint(20, 200, (2, 7))
    packed = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 2, 2]])
    padded = torch.tensor([[0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1]])
    if name not in CROSSED:
        return {"tokens": tokens, "documents": packed if layout == "packed" else padded}
    source = torch.randint(20, 200, (2, 5))
    if layout == "packed":
        documents = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 2, 2]])
        return {"tokens": tokens, "documents": packed, "source": source, "source_documents": documents}
    return {"tokens": tokens, "source": source, "source_lengths": torch.tensor([5, 3])}


def full_weights(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What each layer's own forward gives with `weights=True`."""
    found: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        def see(part: Attention, given: Any, options: Any) -> None:
            found[name] = Attention.forward(part, *given, **{**options, "weights": True})[1]

        return see

    parts = {name: part for name, part in model.named_modules() if isinstance(part, Attention)}
    handles = [part.register_forward_pre_hook(hook(name), with_kwargs=True) for name, part in parts.items()]
    with torch.no_grad():
        model.eval().features(**inputs)
    for handle in handles:
        handle.remove()
    return found
