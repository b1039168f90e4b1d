"""Vectors of texts by a BERT: the mean of a text's hidden states, brought to length 1.

N. Reimers, I. Gurevych, Sentence-BERT, arXiv:1908.10084, section 3 (the mean over all tokens, marks
included). The network's body is used, whatever head it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from descent.data.rows import Packing, lay_out
from descent.data.sentences import sentence_rows
from descent.errors import UserError
from descent.models.bert import BERT
from descent.text import Tokenizer

__all__ = ["ROW", "as_bert", "longest_text", "text_vectors"]

ROW = 128
"""Tokens that texts are packed to; a longer text makes its row wider."""
TOKENS = 16_384
"""Tokens of texts in a batch."""


def as_bert(model: nn.Module, name: str = "") -> BERT:
    """The model, if it is one that gives vectors of texts.

    Raises:
        UserError: it is no BERT.
    """
    if not isinstance(model, BERT):
        raise UserError(
            f"{name or 'this model'} gives no vectors of texts",
            got=type(model).__name__,
            expected="a BERT, such as `descent train bert-similar` or `descent train bert` trains",
        )
    return model


def longest_text(model: BERT, preparation: Mapping[str, Any]) -> int:
    """The most tokens of a text, marks included: as in training where that is known, else the context."""
    held = preparation.get("length")
    return min(held, model.config.context) if isinstance(held, int) else model.config.context


def text_vectors(
    model: BERT,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    length: int,
    packing: Packing = "documents",
) -> tuple[Float[Tensor, "texts dim"], int]:
    """The vector of each text, of length 1, on the CPU; and how many texts were cut.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        texts: at least one.
        length: the most tokens of a text; what is longer is cut at its end.
        packing: "documents" puts several texts into a row; "padded" each into its own. The vectors are the
            same but for rounding.

    Raises:
        UserError: a text is empty.
    """
    empty = next((place for place, text in enumerate(texts) if not text.strip()), None)
    if empty is not None or not texts:
        raise UserError("there is no text" if empty is None else f"text {empty + 1:,} of these is empty")
    rows, cut = sentence_rows([(text.strip(),) for text in texts], tokenizer, length)
    for place, row in enumerate(rows):
        row["answer"] = np.array(place)
    device = next(model.parameters()).device
    found_ND = torch.empty(len(texts), model.config.dim)
    # texts of a batch are of a like length, so that one long one does not widen the rows of all
    rows.sort(key=lambda row: len(row["tokens"]))
    ends = np.cumsum([len(row["tokens"]) for row in rows]) // TOKENS
    for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(ends)) + 1):
        some = [rows[place] for place in part.tolist()]
        batch = lay_out(some, min(ROW, length), pad=tokenizer.pad, packed=packing == "documents")
        held = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.inference_mode():
            hidden = model.features(held["tokens"], documents=held["documents"], positions=held["positions"])
            vectors_NKD = model.vectors(hidden, held["starts"], held["documents"]).float().cpu()
        asked_NK = batch["targets"] >= 0
        found_ND[batch["targets"][asked_NK]] = vectors_NKD[asked_NK]
    return F.normalize(found_ND, dim=-1), cut
