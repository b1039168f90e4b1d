"""Rows about leaving and coming back: an export re-read by us, and read by the reference library."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from descent.data.dataset import Batch
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
    """Logits of transformers on the exported folder, for a model it has."""
    target = loaded.export(folder / "reference", overwrite=True)
    kind = json.loads((target / "config.json").read_text(encoding="utf-8"))["model_type"]
    if kind == "descent":
        raise NotApplicable(f"transformers has no model like this {loaded.config.type}")  # type: ignore[attr-defined]
    try:
        import transformers
    except ImportError:
        raise NotApplicable("transformers is not installed") from None
    images = "inputs" in batch
    kind = transformers.AutoModelForImageClassification if images else transformers.AutoModelForCausalLM
    if "source" in batch:
        kind = transformers.AutoModelForSeq2SeqLM
    model = kind.from_pretrained(target, dtype=torch.float32).eval()
    with torch.inference_mode():
        if "source" in batch:
            source, tokens, lengths = (batch[name] for name in ("source", "tokens", "source_lengths"))
            real = (torch.arange(source.shape[1]) < lengths[:, None]).long()
            expected = model(input_ids=source, attention_mask=real, decoder_input_ids=tokens).logits
            found = loaded.model(source, tokens, source_lengths=lengths)
        else:
            inputs = batch["inputs" if images else "tokens"]
            expected, found = model(inputs).logits, loaded.model(inputs)
    return difference(found, expected), f"transformers {transformers.__version__}, {type(model).__name__}"
