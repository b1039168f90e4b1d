"""Saliency over the steps of a sequence: against gradients taken by another route."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from explain_toys import assert_as_before, condition
from PIL import Image

from descent.errors import UserError
from descent.explain.sequence_figure import draw_sequence_saliency
from descent.explain.sequence_saliency import sequence_saliency
from descent.models.gpt import GPT, GPTConfig
from descent.models.rnn import RNN, RNNConfig
from descent.models.seq2seq import Seq2Seq, Seq2SeqConfig

VOCABULARY = 30


def language_model(kind: str) -> torch.nn.Module:
    torch.manual_seed(1)
    if kind == "gpt":
        model = GPT(GPTConfig(depth=2, dim=16, heads=2, context=16, vocab_size=VOCABULARY, bigram=True))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model.train()
    return RNN(RNNConfig(cell=kind, depth=1, dim=8, vocab_size=VOCABULARY, tied=True)).train()


@pytest.mark.parametrize("kind", ["tanh", "lstm", "gru", "gpt"])
def test_it_is_the_gradient_of_the_answer_by_each_token(kind):
    model, ids = language_model(kind), torch.randperm(VOCABULARY)[None, :9]
    before = condition(model)
    found = sequence_saliency(model, {"tokens": ids}, target=4, position=6, pieces="abcdefghi")
    assert_as_before(model, before)
    table = model.eval().tokens.weight
    x = table.detach()[ids].requires_grad_(True)
    handle = model.tokens.register_forward_hook(lambda module, inputs, output: x)
    logits = model(ids)[0, 6]
    handle.remove()
    (slope,) = torch.autograd.grad(logits[4], x)
    np.testing.assert_allclose(found.values, slope[0].norm(dim=1), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.products, (slope * x).detach()[0].sum(1), rtol=1e-4, atol=1e-7)
    assert found.score == pytest.approx(float(logits[4].detach()), rel=1e-5)
    assert found.probability == pytest.approx(float(logits.detach().softmax(0)[4]), rel=1e-4)
    assert (found.position, found.target, found.features) == (6, 4, None)
    assert not found.values[7:].any()
    assert (found.values[:7] > 0).all()


def test_the_greatest_output_of_the_last_real_step_is_explained_unless_asked():
    torch.manual_seed(2)
    model = RNN(RNNConfig(cell="gru", depth=1, dim=6, inputs=(3,), outputs=4)).eval()
    inputs = torch.randn(1, 8, 3)
    batch = {"inputs": inputs, "lengths": torch.tensor([5])}
    found = sequence_saliency(model, batch)
    answer = model(inputs[:, :5])[0, 4]
    assert (found.position, found.target) == (4, int(answer.argmax()))
    x = inputs[:, :5].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(model(x)[0, 4, found.target], x)
    assert found.features is not None
    np.testing.assert_allclose(found.features, slope[0], rtol=1e-5, atol=1e-7)
    assert sequence_saliency(model, batch, position=-2).position == 3


def test_of_a_translation_the_source_is_looked_at():
    torch.manual_seed(3)
    model = Seq2Seq(Seq2SeqConfig(dim=8, depth=1, vocab_size=VOCABULARY, attention="luong"))
    batch = {
        "source": torch.randperm(VOCABULARY)[None, :6],
        "source_lengths": torch.tensor([4]),
        "tokens": torch.tensor([[1, 2, 3]]),
    }
    found = sequence_saliency(model, batch, target=5)
    assert found.position == 2
    assert found.values.shape == (4,)
    assert (found.values > 0).all()


def test_one_answer_a_row_has_no_position():
    torch.manual_seed(4)
    model = RNN(RNNConfig(cell="lstm", depth=1, dim=6, inputs=(3,), outputs=2, pool="mean"))
    batch = {"inputs": torch.randn(1, 5, 3)}
    assert sequence_saliency(model, batch).position is None
    for options, words in [
        ({"position": 1}, "no position to choose"),
        ({"target": 2}, "no such output"),
    ]:
        with pytest.raises(UserError, match=words):
            sequence_saliency(model, batch, **options)
    with pytest.raises(UserError, match="no such position"):
        sequence_saliency(language_model("gru"), {"tokens": torch.tensor([[1, 2]])}, position=2)


@pytest.mark.parametrize("pieces", ["ab山\ne", ""], ids=["text", "features"])
def test_it_is_drawn(tmp_path, pieces):
    torch.manual_seed(5)
    if pieces:
        found = sequence_saliency(
            language_model("lstm"), {"tokens": torch.tensor([[1, 2, 3, 4, 5]])}, pieces=pieces
        )
    else:
        model = RNN(RNNConfig(cell="lstm", depth=1, dim=6, inputs=(3,), outputs=2))
        found = sequence_saliency(model, {"inputs": torch.randn(1, 5, 3)})
    with Image.open(draw_sequence_saliency(found, "'x'", tmp_path / "saliency.png")) as image:
        assert image.format == "PNG"
