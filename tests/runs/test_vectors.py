"""Vectors of texts: the mean of a text's states, the same in any company, from a BERT with any head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from descent.errors import UserError
from descent.models.bert import BERT, BERTConfig
from descent.models.gpt import GPT, GPTConfig
from descent.runs import vectors
from descent.runs.loaded import Loaded
from descent.text import Tokenizer, train

TEXTS = ["a river", "the wind and the stone " * 9, "山水", "b", "river stone", "a  river", "wind" * 40]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train("char", TEXTS, marks="bert")


def loaded(tokenizer: Tokenizer, head: str = "vector", **preparation: Any) -> Loaded:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"depth": 2, "dim": 16, "heads": 2, "outputs": 3, "context": 300}
    model = BERT(BERTConfig(**sizes, vocab_size=tokenizer.vocab_size, head=head))  # type: ignore[arg-type]
    return Loaded(model.eval(), model.config, tokenizer, preparation=preparation)


def test_a_vector_is_the_mean_of_the_states_of_the_text_and_its_marks(tokenizer: Tokenizer) -> None:
    model = loaded(tokenizer)
    found = model.embed(TEXTS)
    assert found.shape == (len(TEXTS), 16)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = [tokenizer.begin, *tokenizer.encode(text.strip()), tokenizer.separator]
        with torch.no_grad():
            mean = model.model.features(torch.tensor([ids]))[0].mean(0)  # type: ignore[operator]
        assert_close(vector, mean / mean.norm(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [16_384, 40])
def test_packed_padded_and_alone_it_is_the_same(
    tokenizer: Tokenizer, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "TOKENS", tokens)
    model = loaded(tokenizer)
    packed, padded = model.embed(TEXTS), model.embed(TEXTS, packing="padded")
    alone = torch.cat([model.embed([text]) for text in TEXTS])
    assert_close(packed, padded, rtol=1e-4, atol=1e-5)
    assert_close(packed, alone, rtol=1e-4, atol=1e-5)
    assert_close(packed.norm(dim=-1), torch.ones(len(TEXTS)))
    assert (packed[0] - packed[1]).abs().max() > 1e-2


@pytest.mark.parametrize("head", ["masked", "pretraining", "classes", "tokens", "span", "none"])
def test_the_body_is_used_whatever_the_head(tokenizer: Tokenizer, head: str) -> None:
    model, plain = loaded(tokenizer, head), loaded(tokenizer)
    plain.model.load_state_dict(model.model.state_dict(), strict=False)
    assert_close(model.embed(TEXTS[:3]), plain.embed(TEXTS[:3]), rtol=0, atol=0)


def test_a_long_text_is_cut_as_in_training(tokenizer: Tokenizer) -> None:
    short = loaded(tokenizer, length=20)
    assert_close(short.embed([TEXTS[1]]), short.embed([TEXTS[1][:18]]), rtol=1e-4, atol=1e-5)
    assert vectors.longest_text(vectors.as_bert(short.model), {}) == 300
    found, cut = vectors.text_vectors(short.model, tokenizer, TEXTS, 20)  # type: ignore[arg-type]
    assert cut == 2
    assert_close(found, short.embed(TEXTS))


def test_what_gives_no_vectors_says_so(tokenizer: Tokenizer) -> None:
    gpt = GPT(GPTConfig(depth=1, dim=16, heads=2, vocab_size=tokenizer.vocab_size, context=8))
    with pytest.raises(UserError, match="gives no vectors of texts"):
        Loaded(gpt, gpt.config, tokenizer).embed(["a"])
    with pytest.raises(UserError, match="text 2 of these is empty"):
        loaded(tokenizer).embed(["a", " "])
    with pytest.raises(UserError, match="there is no text"):
        loaded(tokenizer).embed([])
