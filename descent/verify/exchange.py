"""Rows about leaving and coming back: an export re-read by us, and read by the reference library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from descent.data.dataset import Batch
from descent.models.bert import BERT
from descent.runs.load import load
from descent.runs.loaded import Loaded
from descent.verify.measure import NotApplicable, asked, difference


def exported(loaded: Loaded, batch: Batch, folder: Path) -> tuple[float, str]:
    """Outputs of the model after a trip to disk in the Hugging Face layout."""
    again = load(loaded.export(folder / "export", overwrite=True))
    with torch.inference_mode():
        worst = difference(asked(again.model, batch), asked(loaded.model, batch))
    if loaded.tokenizer is not None and again.tokenizer is not None:
        same = loaded.tokenizer.fingerprint == again.tokenizer.fingerprint
        worst = worst if same else float("inf")
    return worst, "in the Hugging Face layout, fp32"


def reference(loaded: Loaded, batch: Batch, folder: Path) -> tuple[float, str]:
    """What transformers answers on the exported folder, for a model it has: the worst of all parts."""
    target = loaded.export(folder / "reference", overwrite=True)
    table = json.loads((target / "config.json").read_text(encoding="utf-8"))
    if table["model_type"] == "descent":
        raise NotApplicable(f"transformers has no model like this {loaded.config.type}")  # type: ignore[attr-defined]
    try:
        import transformers
    except ImportError:
        raise NotApplicable("transformers is not installed") from None
    kind = getattr(transformers, table["architectures"][0])
    model = kind.from_pretrained(target, dtype=torch.float32).eval()
    with torch.inference_mode():
        if isinstance(loaded.model, BERT):
            pairs = _both(loaded.model, model, batch)
        elif "source" in batch:
            source, tokens, lengths = (batch[name] for name in ("source", "tokens", "source_lengths"))
            real = (torch.arange(source.shape[1]) < lengths[:, None]).long()
            expected = model(input_ids=source, attention_mask=real, decoder_input_ids=tokens).logits
            pairs = [(loaded.model(source, tokens, source_lengths=lengths), expected)]
        else:
            inputs = batch["inputs" if "inputs" in batch else "tokens"]
            pairs = [(loaded.model(inputs), model(inputs).logits)]
    worst = max(difference(found, expected) for found, expected in pairs)
    return worst, f"transformers {transformers.__version__}, {type(model).__name__}"


def _both(ours: BERT, theirs: Any, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Each part of a BERT's answer as we give it and as they do, every row read as one example."""
    config = ours.config
    tokens = batch["tokens"][:, : config.context]
    segments = batch.get("segments", torch.zeros_like(batch["tokens"]))[:, : config.context]
    found = ours(tokens, segments=segments)
    places = torch.arange(tokens.shape[1]) + config.position_offset  # RoBERTa counts no tokens of padding
    said = theirs(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        token_type_ids=segments if config.segments > 1 else torch.zeros_like(tokens),
        position_ids=places.expand_as(tokens),
    )
    if config.head == "pretraining":
        return list(zip(found, (said.prediction_logits, said.seq_relationship_logits), strict=True))
    if config.head == "span":
        return [(found, torch.stack((said.start_logits, said.end_logits), dim=-1))]
    if config.head != "none":
        return [(found, said.logits)]
    pooled = [] if ours.pooler is None else [(ours.pooled(found), said.pooler_output)]
    return [(found, said.last_hidden_state), *pooled]
