"""The contract of BERT, T5 and the Transformer; by gradient, that documents of a row never see each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from descent.models import build, config_class
from descent.models.bert import BERT, BERTConfig
from descent.runs.loaded import Loaded
from descent.verify import exchange, verify

HEADS = ["none", "masked", "pretraining", "next", "classes", "tokens", "span", "vector"]
SMALL = {"dim": 32, "heads": 2, "depth": 2, "vocab_size": 50}


def made(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config: Any = config_class(kind).read({**SMALL, **changes}, where="test")
    model = build(config).eval()
    with torch.no_grad():  # where projections start at zero nothing would reach anything
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def bert(head: str, **changes: Any) -> Any:
    sizes = {"outputs": 3} if head in ("classes", "tokens") else {}
    return made("bert", head=head, **sizes, **changes)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("order", ["pre", "post"])
def test_every_head_of_bert_holds_the_contract(head: str, order: str) -> None:
    rows = verify(Loaded(bert(head, order=order), bert(head, order=order).config))
    assert all(row.ok for row in rows), rows
    measured = {row.name for row in rows if row.worst is not None}
    assert {"packed rows = padded rows", "fused attention = weights-returning"} <= measured


def published(form: str, head: str) -> BERT:
    """A BERT or a RoBERTa as published, but small, every parameter moved away from where it starts."""
    sizes = {**SMALL, "head": head, "outputs": 3 if head in ("classes", "tokens") else 0}
    config = BERTConfig.published("tiny", **sizes) if form == "bert" else BERTConfig.roberta("tiny", **sizes)
    torch.manual_seed(0)
    model = BERT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


CLASSES = {
    "bert": {
        "none": "BertModel",
        "masked": "BertForMaskedLM",
        "pretraining": "BertForPreTraining",
        "next": "BertForNextSentencePrediction",
        "classes": "BertForSequenceClassification",
        "tokens": "BertForTokenClassification",
        "span": "BertForQuestionAnswering",
    },
    "roberta": {
        "none": "RobertaModel",
        "masked": "RobertaForMaskedLM",
        "classes": "RobertaForSequenceClassification",
        "tokens": "RobertaForTokenClassification",
        "span": "RobertaForQuestionAnswering",
    },
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("form", CLASSES)
def test_every_head_as_published_is_that_of_the_reference_library(form: str, head: str) -> None:
    pytest.importorskip("transformers")
    model = published(form, head)
    rows = {row.name: row for row in verify(Loaded(model, model.config))}
    assert all(row.ok for row in rows.values()), rows
    reference = rows["ours = the reference library's"]
    name = CLASSES[form].get(head)
    if name is None:
        assert reference.worst is None
        assert "no model like this bert" in reference.note
    else:
        assert reference.worst is not None
        assert reference.note.endswith(f", {name}")


@pytest.mark.parametrize("part", ["masked.dense.weight", "next.weight", "pooler.bias"])
def test_no_part_of_an_answer_may_differ(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export is made of a model that differs from ours in one tensor."""
    pytest.importorskip("transformers")
    model, other = published("bert", "pretraining"), published("bert", "pretraining")
    with torch.no_grad():
        other.get_parameter(part).add_(torch.linspace(0, 1, 32)[: other.get_parameter(part).shape[-1]])
    folder = Loaded(other, other.config).export(tmp_path / "other")
    loaded = Loaded(model, model.config)
    monkeypatch.setattr(Loaded, "export", lambda *_, **__: folder)
    segments = (torch.arange(20) > 8).long().expand(2, 20)
    worst, _ = exchange.reference(
        loaded, {"tokens": torch.randint(0, 50, (2, 20)), "segments": segments}, tmp_path
    )
    assert worst > 1e-3


def test_rows_of_pairs_are_compared_with_their_segments(tmp_path: Path) -> None:
    """Also where they are wider than the context, as rows of several examples may be."""
    pytest.importorskip("transformers")
    for form, head in (("bert", "classes"), ("roberta", "classes"), ("bert", "none")):
        model = published(form, head)
        with torch.no_grad():
            model.segments.weight.normal_()  # type: ignore[union-attr]
        segments = (torch.arange(600) > 8).long().expand(2, 600)
        batch = {"tokens": torch.randint(0, 50, (2, 600)), "segments": segments}
        worst, _ = exchange.reference(Loaded(model, model.config), batch, tmp_path / f"{form}-{head}")
        assert worst < 1e-4


@pytest.mark.parametrize("kind", ["transformer", "t5"])
def test_encoder_decoders_hold_the_contract(kind: str) -> None:
    model = made(kind)
    rows = verify(Loaded(model, model.config))
    assert all(row.ok for row in rows), rows
    measured = {row.name for row in rows if row.worst is not None}
    assert {
        "cached decoding = full forward",
        "packed rows = padded rows",
        "fused attention = weights-returning",
    } <= measured


def reach(model: Any, call: Any, tokens: Tensor) -> list[Tensor]:
    """For each forward of the token embedding, how strongly the answer hangs on each of its places."""
    held: list[Tensor] = []

    def keep(module: Any, args: Any, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        held.append(leaf)
        return leaf

    handle = model.tokens.register_forward_hook(keep)
    try:
        call().backward()
    finally:
        handle.remove()
    return [leaf.grad.abs().sum(-1) if leaf.grad is not None else leaf[..., 0] * 0 for leaf in held]


DOCUMENTS = torch.tensor([[0] * 5 + [1] * 7 + [2] * 4])


@pytest.mark.parametrize("kind", ["bert", "gpt", "llama"])
@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_no_document_of_a_row_sees_another(kind: str, chosen: int) -> None:
    model = made(kind, **({"head": "masked"} if kind == "bert" else {}))
    tokens, own = torch.randint(0, 50, (1, 16)), chosen == DOCUMENTS
    (felt,) = reach(model, lambda: model(tokens, documents=DOCUMENTS)[own].square().sum(), tokens)
    assert (felt[~own] == 0).all()
    assert (felt[own] > 0).all()


@pytest.mark.parametrize("kind", ["transformer", "t5"])
@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_no_target_of_a_row_sees_another_s_source(kind: str, chosen: int) -> None:
    model = made(kind)
    source, tokens = torch.randint(0, 50, (1, 16)), torch.randint(0, 50, (1, 9))
    targets = torch.tensor([[0, 0, 1, 1, 1, 1, 2, 2, 2]])
    own = targets == chosen

    def answer() -> Tensor:
        return model(source, tokens, source_documents=DOCUMENTS, documents=targets)[own].square().sum()

    read, written = reach(model, answer, tokens)
    assert (read[chosen != DOCUMENTS] == 0).all()
    assert (read[chosen == DOCUMENTS] > 0).all()
    assert (written[~own] == 0).all()
    assert (written[own] > 0).all()
