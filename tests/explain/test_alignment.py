"""The alignment picture: its arrays are the model's own weights, its labels the tokens, and it is a PNG."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close

from descent.errors import UserError
from descent.explain.alignment import Alignment, alignment
from descent.generation import Settings
from descent.generation.translate import translate
from descent.models.seq2seq import Seq2Seq, Seq2SeqConfig
from descent.text import train

TEXT = "a 二b"


@pytest.fixture(scope="module")
def tokenizer():
    return train("char", ["ab 一二三"])


def model_of(tokenizer, attention: str = "bahdanau") -> Seq2Seq:
    torch.manual_seed(4)
    sizes = {"vocab_size": tokenizer.vocab_size, "dim": 8, "dropout": 0.5}
    return Seq2Seq(Seq2SeqConfig.read({**sizes, "attention": attention}))


@pytest.mark.parametrize("attention", ["bahdanau", "luong"])
def test_what_the_model_writes_is_aligned(tokenizer, attention: str):
    model = model_of(tokenizer, attention)
    found = alignment(model, tokenizer, TEXT, max_new_tokens=6)
    (written,) = translate(model, [TEXT], tokenizer, Settings(temperature=0, max_new_tokens=6))
    assert found.text == written.text
    assert found.source == ("a", "␣", "二", "b", "end")
    length = len(written.tokens) + (written.reason == "stop")
    assert found.weights.shape == (length, 5) == (len(found.target), len(found.source))
    assert_close(found.weights.sum(1), torch.ones(length))
    assert model.training, "the model is left in the mode it was in"


def test_a_given_target_is_aligned_with_its_end(tokenizer):
    model = model_of(tokenizer)
    found = alignment(model, tokenizer, TEXT, "一三")
    assert (found.target, found.text) == (("一", "三", "end"), "一三")
    end = tokenizer.end
    expected = model.eval().attention_weights(
        torch.tensor([[*tokenizer.encode(TEXT), end]]),
        torch.tensor([5]),
        torch.tensor([[end, *tokenizer.encode("一三")]]),
    )
    assert_close(found.weights, expected[0])


def test_a_row_of_the_arrays_is_a_row_of_the_picture(tokenizer, tmp_path):
    weights = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    path = Alignment(("a", "b", "end"), ("b", "end"), weights, "b").draw(tmp_path / "new" / "a.png")
    other = Alignment(("a", "b", "end"), ("b", "end"), torch.zeros(2, 3), "b").draw(tmp_path / "b.png")
    dark, none = (int((np.asarray(Image.open(file).convert("L")) < 60).sum()) for file in (path, other))
    assert dark > none + 1000, "two cells are dark"


def test_a_model_that_attends_to_nothing_is_refused(tokenizer):
    with pytest.raises(UserError, match="has no attention"):
        alignment(model_of(tokenizer, "none"), tokenizer, TEXT)
    with pytest.raises(UserError, match="does not attend to a source"):
        alignment(nn.Linear(2, 2), tokenizer, TEXT)


def test_what_does_not_fit_a_figure_is_refused(tmp_path):
    found = Alignment(("a",) * 81, ("end",), torch.zeros(1, 81), "")
    with pytest.raises(UserError, match="too large to be drawn"):
        found.draw(tmp_path / "a.png")
    with pytest.raises(UserError, match="must be a PNG"):
        found.draw(tmp_path / "a.jpg")
