"""The systems of `benchmarks.attending`: Descent and transformers on the same BERT and T5.

All of them do the same step: forward, loss, backward, gradients clipped to norm 1, AdamW. Dropout is off for
all, as each draws it in its own way. Tokens are random: only their numbers matter.

Shapes: N rows, T tokens of a row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.systems import own_loop
from descent.data import load_texts
from descent.data.dataset import IGNORED, Batch, Dataset, Indices, Split
from descent.data.masked_config import MaskedData
from descent.data.pairs_config import PairsData
from descent.data.rows import RowSplit
from descent.data.sentences_config import SentencesData
from descent.models.bert import BERTConfig
from descent.models.t5 import T5Config
from descent.objectives import SupervisedConfig
from descent.objectives.masked import MaskedConfig
from descent.objectives.seq2seq import Seq2SeqObjectiveConfig
from descent.runs.assemble import put_together
from descent.runs.recipe import Budget, Recipe
from descent.text import TokenizerConfig
from descent.training.optimizers import AdamWConfig

Work = Callable[[], float]

RATE, CLIP, VOCAB, T5_VOCAB = 2e-5, 1.0, 30522, 32128
EXAMPLES, GROUPS = 32, 4
"""Examples of a step of fine-tuning, and steps of a round."""
ROWS, LENGTH, SHARE = 16, 128, 0.15
"""A step of pretraining."""
PAIRS, SOURCE, TARGET = 8, 256, 64
"""A step of T5."""
OFF = {"dropout": 0.0, "attention_dropout": 0.0}


@functools.cache
def lengths() -> tuple[tuple[int, ...], ...]:
    """Tokens of some sentences of SST-2, in groups of about equal length spread over all lengths.

    A word and a sign count as one token each, as most do for a BERT; the marks are two more. Of 1,600
    sentences sorted by length, groups of 32 are taken at equal distances, so that bucketing wastes little.
    """
    texts = load_texts(SentencesData(source="sst2"), False).texts("train")[:1600]
    ordered = sorted(min(len(text.split()), 126) + 2 for text in texts)
    gap = len(ordered) // GROUPS
    starts = [gap * group + (gap - EXAMPLES) // 2 for group in range(GROUPS)]
    return tuple(tuple(ordered[start : start + EXAMPLES]) for start in starts)


def real_tokens() -> int:
    """Tokens of a round of fine-tuning, without padding."""
    return sum(map(sum, lengths()))


def _shuffled() -> list[int]:
    """The same sentences in no order."""
    flat = [size for group in lengths() for size in group]
    return np.random.default_rng(0).permutation(flat).tolist()


def finetune_descent() -> Work:
    """Packed rows, as `descent train bert-sst2` makes them from a random order."""
    draw = np.random.default_rng(1)
    examples = [
        {"tokens": draw.integers(1000, VOCAB, size), "answer": np.array(size % 2)} for size in _shuffled()
    ]
    split = RowSplit(examples, LENGTH, pad=0, vocab_size=VOCAB)
    recipe = _recipe(
        data=SentencesData(source="sst2"),
        model=BERTConfig.published("base", head="classes", outputs=2, vocab_size=VOCAB, **OFF),
        objective=SupervisedConfig(),
        budget=Budget(steps=10**6, batch_size=EXAMPLES),
    )
    return _trained(recipe, split, {"vocab_size": VOCAB, "outputs": 2}, GROUPS, labels=("no", "yes"))


def finetune_transformers(best: bool) -> Work:
    """Padded to the longest of a batch; at best in bfloat16 and batches of about equal length."""
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(
        BertConfig(**_off("hidden_dropout_prob", "attention_probs_dropout_prob"))
    )
    flat = _shuffled()
    groups = lengths() if best else [flat[at : at + EXAMPLES] for at in range(0, len(flat), EXAMPLES)]
    batches = [_padded(group) for group in groups]
    return _plain_loop(model, batches, best)


def _padded(sizes: Sequence[int]) -> dict[str, Tensor]:
    real_NT = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    tokens_NT = torch.randint(1000, VOCAB, real_NT.shape)
    return {
        "input_ids": tokens_NT * real_NT,
        "attention_mask": real_NT.long(),
        "labels": torch.tensor(sizes) % 2,
    }


class _Fixed(Split):
    """One batch, again and again."""

    def __init__(self, batch: Batch):
        self.batch = batch

    def __len__(self) -> int:
        return len(next(iter(self.batch.values())))

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        return self.batch

    def join(self, parts: Sequence[Batch]) -> Batch:
        return self.batch

    def describe(self) -> str:
        return f"{len(self)} rows"


def _masked() -> tuple[Tensor, Tensor]:
    """Rows of tokens, and those of them that are to be found."""
    draw = torch.Generator().manual_seed(1)
    tokens_NT = torch.randint(1000, VOCAB, (ROWS, LENGTH), generator=draw)
    hidden_NT = torch.rand(tokens_NT.shape, generator=draw) < SHARE
    return tokens_NT.masked_fill(hidden_NT, 103), torch.where(hidden_NT, tokens_NT, IGNORED)


def masked_descent() -> Work:
    """The head computed at the hidden tokens alone."""
    tokens_NT, targets_NT = _masked()
    split = _Fixed({"tokens": tokens_NT, "targets": targets_NT})
    recipe = _recipe(
        data=MaskedData(source="python-docs"),
        model=BERTConfig.published("base", head="masked", vocab_size=VOCAB, **OFF),
        objective=MaskedConfig(),
        budget=Budget(steps=10**6, batch_size=ROWS),
    )
    return _trained(recipe, split, {"vocab_size": VOCAB}, 1)


def masked_transformers(best: bool) -> Work:
    from transformers import BertConfig, BertForMaskedLM

    model = BertForMaskedLM(BertConfig(**_off("hidden_dropout_prob", "attention_probs_dropout_prob")))
    tokens_NT, targets_NT = _masked()
    return _plain_loop(model, [{"input_ids": tokens_NT, "labels": targets_NT}], best)


def _sides() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    draw = np.random.default_rng(1)
    return draw.integers(200, 32000, (PAIRS, SOURCE)), draw.integers(200, 32000, (PAIRS, TARGET))


def t5_descent() -> Work:
    source, targets = map(torch.from_numpy, _sides())
    before = torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], dim=1)
    whole = torch.full((PAIRS,), SOURCE)
    split = _Fixed({"source": source, "source_lengths": whole, "tokens": before, "targets": targets})
    recipe = _recipe(
        data=PairsData(source="dates"),
        model=T5Config.published("small", vocab_size=T5_VOCAB, dropout=0.0),
        objective=Seq2SeqObjectiveConfig(),
        budget=Budget(steps=10**6, batch_size=PAIRS),
    )
    return _trained(recipe, split, {"vocab_size": T5_VOCAB}, 1)


def t5_transformers(best: bool) -> Work:
    from transformers import T5Config as TheirConfig
    from transformers import T5ForConditionalGeneration

    table = {"d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "decoder_start_token_id": 0}
    model = T5ForConditionalGeneration(TheirConfig(**table, **_off("dropout_rate")))
    source, targets = map(torch.from_numpy, _sides())
    return _plain_loop(model, [{"input_ids": source, "labels": targets}], best)


def _off(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, 0.0)


def _recipe(**parts: Any) -> Recipe:
    return Recipe(
        name="benchmark",
        tokenizer=TokenizerConfig(),
        optimizer=AdamWConfig(learning_rate=RATE, weight_decay=0.01),
        clip_norm=CLIP,
        **parts,
    )


def _trained(
    recipe: Recipe, split: Split, sizes: dict[str, Any], steps: int, labels: tuple[str, ...] | None = None
) -> Work:
    """Some steps of Descent's own loop on what the recipe builds."""
    dataset = Dataset("benchmark", {"train": split}, sizes, "tokens", "", labels=labels)
    return own_loop(put_together(recipe, dataset, None), steps)


def _plain_loop(model: nn.Module, batches: Sequence[dict[str, Tensor]], half: bool) -> Work:
    """The shortest loop there is around a model of transformers."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=half or None)

    def work() -> float:
        value = 0.0
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
                loss = model(**batch).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            value = loss.item()
        return value

    return work
