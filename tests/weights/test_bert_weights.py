"""BERT and RoBERTa beside transformers: the same states, outputs and gradients; weights both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import descent
from descent.data.sentences import sentence_rows
from descent.errors import UserError
from descent.models.bert import BERT, BERTConfig
from descent.text import train
from descent.weights import bert, safetensors_file
from descent.weights.architectures import ARCHITECTURES, of
from descent.weights.export import export
from descent.weights.folder import read_folder

transformers = pytest.importorskip("transformers")

SMALL: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 100,
    "max_position_embeddings": 40,
}
ROBERTA = {"type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}
CASES = [(kind, name) for kind, classes in bert.CLASSES.items() for name in classes]
each = pytest.mark.parametrize(("kind", "name"), CASES)
LENGTHS = (17, 9, 1)
"""Real tokens of each row; what is behind them is padding."""
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "sat",
    "##s",
    "mat",
    "on",
    "静",
    "夜",
    "un",
]


def theirs_of(kind: str, name: str, **changes: Any) -> Any:
    """A small model of transformers, every parameter moved away from where it starts."""
    torch.manual_seed(3)
    labels = 2 if name.endswith("QuestionAnswering") else 5
    sizes = {**SMALL, "num_labels": labels, **(ROBERTA if kind == "roberta" else {}), **changes}
    of_kind = transformers.BertConfig if kind == "bert" else transformers.RobertaConfig
    model = getattr(transformers, name)(of_kind(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def batch(kind: str) -> dict[str, Tensor]:
    """Rows that are filled up: their tokens, which of them are real, and their segments."""
    torch.manual_seed(4)
    index = torch.arange(max(LENGTHS))
    real = index < torch.tensor(LENGTHS)[:, None]
    pad = 0 if kind == "bert" else 1
    tokens = torch.randint(5, 131, real.shape).where(real, torch.tensor(pad))
    return {"tokens": tokens, "real": real, "segments": (index > 6).expand_as(tokens) * (kind == "bert")}


def asked(model: Any, held: dict[str, Tensor]) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """The outputs of transformers, and its hidden states from the embeddings to the last block."""
    found = model(
        input_ids=held["tokens"],
        attention_mask=held["real"].long(),
        token_type_ids=held["segments"].long(),
        output_hidden_states=True,
    )
    if hasattr(found, "start_logits"):
        return [torch.stack((found.start_logits, found.end_logits), dim=-1)], found.hidden_states
    if hasattr(found, "prediction_logits"):
        return [found.prediction_logits, found.seq_relationship_logits], found.hidden_states
    if hasattr(found, "last_hidden_state"):
        return [found.last_hidden_state, found.pooler_output], found.hidden_states
    return [found.logits], found.hidden_states


def answered(model: BERT, held: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The same of ours; padding is another document."""
    states: list[Tensor] = []
    parts = (model.embedding_norm, *model.blocks)
    hooks = [part.register_forward_hook(lambda *given: states.append(given[2])) for part in parts if part]
    found = model(held["tokens"], documents=(~held["real"]).long(), segments=held["segments"].long())
    for hook in hooks:
        hook.remove()
    outputs = list(found) if isinstance(found, tuple) else [found]
    return outputs + ([model.pooled(found)] if model.config.head == "none" else []), states


def at_real(found: Tensor, held: dict[str, Tensor]) -> Tensor:
    return found[held["real"]] if found.dim() == 3 else found


def table_of(model: Any) -> dict[str, Any]:
    """Its config.json."""
    return json.loads(json.dumps({**model.config.to_dict(), "architectures": [type(model).__name__]}))


def saved(folder: Path, table: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(table))
    apart = {name: tensor.clone() for name, tensor in tensors.items()}
    safetensors_file.write(folder / "model.safetensors", apart, {"format": "pt"})
    return folder


def ours_of(folder: Path) -> BERT:
    model = read_folder(folder).model()
    assert isinstance(model, BERT)
    return model


@each
def test_states_outputs_and_gradients_are_theirs(kind: str, name: str, tmp_path: Path):
    model, held = theirs_of(kind, name), batch(kind)
    model.save_pretrained(tmp_path / "theirs")
    ours = ours_of(tmp_path / "theirs")
    (wanted, wanted_states), (found, states) = asked(model, held), answered(ours, held)
    assert (len(found), len(states)) == (len(wanted), 4)
    for one, other in zip([*found, *states], [*wanted, *wanted_states], strict=True):
        one, other = at_real(one, held), at_real(other, held)
        assert other.std() > 0.01
        assert_close(one, other, rtol=1e-4, atol=1e-5)
    draws = [torch.randn_like(at_real(one, held)) for one in wanted]
    for results in (wanted, found):
        sum((at_real(r, held) * draw).sum() for r, draw in zip(results, draws, strict=True)).backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    expected = bert.state_from(gradients, ours.config, "gradients", kind)
    for key, parameter in ours.named_parameters():
        assert parameter.grad is not None, key
        scale = float(expected[key].abs().max())
        assert scale > 0, key
        assert_close(
            parameter.grad,
            expected[key],
            rtol=1e-3,
            atol=1e-5 * max(1, scale),
            msg=lambda text, k=key: f"{k}: {text}",
        )


@each
@torch.no_grad()
def test_an_export_is_their_class_and_is_read_again(kind: str, name: str, tmp_path: Path):
    model, held = theirs_of(kind, name), batch(kind)
    model.save_pretrained(tmp_path / "theirs")
    ours = ours_of(tmp_path / "theirs")
    folder = export(tmp_path / "out", ours)
    again, report = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    for one, other in zip(asked(again.eval(), held)[0], answered(ours, held)[0], strict=True):
        assert_close(at_real(one, held), at_real(other, held), rtol=1e-4, atol=1e-5)
    assert json.loads((folder / "config.json").read_text())["architectures"] == [name]
    assert read_folder(folder).config == ours.config
    for key, tensor in ours.state_dict().items():
        assert_close(read_folder(folder).state[key], tensor, rtol=0, atol=0)
    there = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if ".decoder." not in key}
    written = safetensors_file.read(folder / "model.safetensors")
    assert {key: tuple(tensor.shape) for key, tensor in written.items()} == there


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh"])
@torch.no_grad()
def test_the_other_gelu_is_theirs_too(activation: str, tmp_path: Path):
    model, held = theirs_of("bert", "BertForMaskedLM", hidden_act=activation), batch("bert")
    model.save_pretrained(tmp_path / "theirs")
    ours = ours_of(tmp_path / "theirs")
    expected = at_real(asked(model, held)[0][0], held)
    assert_close(at_real(answered(ours, held)[0][0], held), expected, rtol=1e-4, atol=1e-5)
    again = transformers.BertForMaskedLM.from_pretrained(export(tmp_path / "out", ours)).eval()
    assert_close(at_real(asked(again, held)[0][0], held), expected, rtol=1e-4, atol=1e-5)


def old_file(kind: str = "bert") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """As the first files: gamma and beta, buffers of positions, tied matrices twice, two heads."""
    model = theirs_of(kind, "BertForPreTraining")
    tensors = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for key, tensor in model.state_dict().items()
    }
    tensors["bert.embeddings.position_ids"] = torch.arange(40)[None]
    assert "cls.predictions.decoder.weight" in tensors
    return {**table_of(model), "architectures": ["BertForMaskedLM"]}, tensors


def test_an_old_file_is_read_whole_whatever_it_calls_itself(tmp_path: Path):
    table, tensors = old_file()
    expected = bert.state_from(
        theirs_of("bert", "BertForPreTraining").state_dict(),
        bert.config_from({**table, "architectures": ["BertForPreTraining"]}, "here"),
        "here",
    )
    for number, classes in enumerate((["BertForMaskedLM"], ["BertForPreTraining"], None)):
        found = read_folder(saved(tmp_path / str(number), {**table, "architectures": classes}, tensors))
        assert found.config.head == "pretraining"
        assert found.state.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in found.state.items())
        assert found.extra["preparation"] == {"kind": "masked", "length": 40}


def test_without_a_class_the_tensors_tell_the_head(tmp_path: Path):
    table, tensors = old_file()
    table = {**table, "architectures": None}
    masked = {key: tensor for key, tensor in tensors.items() if "seq_relationship" not in key}
    assert read_folder(saved(tmp_path / "masked", table, masked)).config.head == "masked"
    plain = {key: tensor for key, tensor in tensors.items() if not key.startswith("cls.")}
    for number, change in enumerate((str, lambda key: key.removeprefix("bert."))):
        held = {change(key): tensor for key, tensor in plain.items()}
        config = read_folder(saved(tmp_path / str(number), table, held)).config
        assert (config.head, config.pooler) == ("none", True)
    bare = {key: tensor for key, tensor in plain.items() if "pooler" not in key}
    found = read_folder(saved(tmp_path / "bare", {**table, "architectures": ["BertModel"]}, bare))
    assert (found.config.head, found.config.pooler) == ("none", False)


def test_a_tied_matrix_that_differs_is_refused_and_one_of_two_is_enough():
    table, tensors = old_file()
    config = bert.config_from({**table, "architectures": ["BertForPreTraining"]}, "here")
    decoder, bias = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
    for name in (decoder, bias):
        with pytest.raises(UserError, match=rf"{name} differs from \S+, to which it is tied"):
            bert.state_from({**tensors, name: tensors[name] + 1}, config, "here")
    kept = dict(tensors)
    del kept["bert.embeddings.word_embeddings.weight"], kept["cls.predictions.bias"]
    found = bert.state_from(kept, config, "here")
    assert torch.equal(found["tokens.weight"], tensors[decoder])
    assert torch.equal(found["masked.bias"], tensors[bias])


def test_parts_that_a_class_does_not_have_are_left_out(tmp_path: Path):
    model = theirs_of("roberta", "RobertaForMaskedLM")
    tensors = {**model.state_dict(), "roberta.pooler.dense.weight": torch.ones(48, 48)}
    found = read_folder(saved(tmp_path / "out", table_of(model), tensors))
    assert (found.config.head, found.config.context, found.config.position_offset) == ("masked", 38, 2)
    assert not any(key.startswith("pooler") for key in found.state)
    model, (_, spare) = theirs_of("bert", "BertForTokenClassification"), old_file()
    spare = {key: tensor for key, tensor in spare.items() if key.startswith(("cls.", "bert.pooler."))}
    found = read_folder(saved(tmp_path / "tags", table_of(model), {**spare, **model.state_dict()}))
    assert found.state.keys() == BERT(found.config).state_dict().keys()


def test_every_difference_is_listed_at_once():
    model = theirs_of("bert", "BertForTokenClassification")
    config = bert.config_from(table_of(model), "here")
    tensors = dict(model.state_dict())
    del tensors["bert.encoder.layer.2.attention.self.key.weight"]
    tensors["bert.pooler.bias"], twice = torch.zeros(48), "encoder.layer.0.output.dense.bias"
    tensors["bert.encoder.layer.0.intermediate.dense.weight"] = torch.zeros(48, 100)
    tensors[twice] = torch.zeros(48)
    tensors["qa_outputs.bias"] = torch.zeros(2)
    with pytest.raises(UserError) as error:
        bert.state_from(tensors, config, "FOLDER")
    assert str(error.value).splitlines() == [
        "FOLDER does not fit the model: 5 differences",
        "  bert.encoder.layer.0.intermediate.dense.weight: 48x100, expected 100x48",
        "  bert.encoder.layer.2.attention.self.key.weight: missing",
        "  bert.pooler.bias: not expected",
        "  encoder.layer.0.output.dense.bias: stands there twice, also as bert." + twice,
        "  qa_outputs.bias: not expected",
    ]


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("BertModel", "hidden_act", "relu"),
        ("BertModel", "position_embedding_type", "relative_key"),
        ("BertModel", "is_decoder", True),
        ("BertModel", "hidden_size", None),
        ("BertForMaskedLM", "tie_word_embeddings", False),
        ("RobertaForMaskedLM", "hidden_act", "gelu_new"),
        ("RobertaModel", "pad_token_id", "1"),
        ("BertForQuestionAnswering", "id2label", {"0": "a", "1": "b", "2": "c"}),
        ("BertModel", "architectures", ["BertLMHeadModel"]),
    ],
)
def test_another_network_is_refused(name: str, field: str, value: Any, tmp_path: Path):
    model = theirs_of("bert" if name.startswith("Bert") else "roberta", name)
    table = table_of(model) | {field: value}
    wanted = {"hidden_size": "dim", "pad_token_id": "position_offset", "id2label": "outputs"}
    wanted["architectures"] = "not known"
    with pytest.raises(UserError, match=rf"config\.json(.|\n)*{wanted.get(field, field)}"):
        read_folder(saved(tmp_path / "out", table, model.state_dict()))


def test_only_networks_that_transformers_computes_are_theirs():
    def kind(**changes: Any) -> str | None:
        row = of(BERTConfig.published("tiny", **changes))
        return None if row is None else next(name for name, held in ARCHITECTURES.items() if held is row)

    assert (kind(), kind(head="classes", outputs=3), kind(feedforward="gelu_tanh")) == ("bert",) * 3
    rest = {"position_offset": 2, "head": "classes", "outputs": 3, "pooler": False}
    assert (kind(**rest), kind(**{**rest, "head": "masked"})) == ("roberta",) * 2
    for changes in (
        {"order": "pre"},
        {"position": "rotary"},
        {"bias": False},
        {"feedforward": "geglu"},
        {"embedding_norm": False},
        {"segments": 0},
        {"head": "vector"},
        {"head": "classes", "outputs": 3, "pooler": False},
        {**rest, "pooler": True},
        {"position_offset": 2, "head": "pretraining"},
        {"position_offset": 2, "head": "masked", "feedforward": "gelu_tanh"},
    ):
        assert kind(**changes) is None, changes


@torch.no_grad()
def test_a_published_folder_tells_the_classes_of_texts(tmp_path: Path):
    """As one was published in 2019: vocab.txt, and names of classes in config.json."""
    names = {0: "bad", 1: "good", 2: "fair"}
    sizes = {"vocab_size": len(WORDS), "id2label": names, "label2id": {v: k for k, v in names.items()}}
    model = theirs_of("bert", "BertForSequenceClassification", **sizes, num_labels=3)
    folder = tmp_path / "theirs"
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    loaded, text = descent.load(folder), "The cats SAT on the 静夜 mat"
    ids = tokenizer(text, return_tensors="pt")
    expected = model(**ids).logits.softmax(-1)[0]
    (found,) = loaded.predict(text)
    assert loaded.labels == ("bad", "good", "fair")
    assert found["label"] == names[int(expected.argmax())]
    assert_close(torch.tensor(list(found["probabilities"].values())), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_transformers_reads_texts_and_classes_of_an_export_as_we_do(tmp_path: Path):
    texts = ["the cat sat on the mat", "静夜思 床前明月光", "the dog"]
    tokenizer = train("wordpiece", texts * 20, 600, marks="bert", lowercase=True)
    torch.manual_seed(1)
    sizes = {"vocab_size": tokenizer.vocab_size, "head": "classes", "outputs": 2, "context": 40}
    ours = BERT(BERTConfig.published("tiny", **sizes)).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    extra = {"labels": ["bad", "good"], "loss": "cross_entropy"}
    folder = export(tmp_path / "out", ours, tokenizer, extra=extra)
    assert not (folder / "generation_config.json").exists()
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    reads = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.config.id2label == {0: "bad", 1: "good"}
    assert [reads.mask_token_id, reads.pad_token_id] == [tokenizer.mask, tokenizer.pad]
    assert reads.model_max_length == 40
    (row,), _ = sentence_rows([("The CAT 月", "the dog")], tokenizer, 40)
    given = reads("The CAT 月", "the dog", return_tensors="pt", return_token_type_ids=True)
    assert given["input_ids"][0].tolist() == row["tokens"].tolist()
    assert given["token_type_ids"][0].tolist() == row["segments"].tolist()
    own = {name: torch.from_numpy(row[name])[None] for name in ("tokens", "segments")}
    assert_close(theirs(**given).logits, ours(**own), rtol=1e-4, atol=1e-5)
    loaded = descent.load(folder)
    assert loaded.labels == ("bad", "good")
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.encode("The CAT 月") == tokenizer.encode("The CAT 月")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "roberta"])
@torch.no_grad()
def test_at_the_size_of_base(kind: str):
    torch.manual_seed(0)
    if kind == "bert":
        config, model = (
            BERTConfig.published("base"),
            transformers.BertForPreTraining(transformers.BertConfig()),
        )
    else:
        config = BERTConfig.roberta("base")
        table = transformers.RobertaConfig(**{"max_position_embeddings": 514, **ROBERTA})
        model = transformers.RobertaForMaskedLM(table)
    ours = BERT(config).eval()
    state = bert.state_from(model.eval().state_dict(), config, "transformers", kind)
    safetensors_file.load_into(ours, state, "transformers")
    tokens = torch.randint(1000, 30000, (3, 128))
    real = torch.arange(128) < torch.tensor([128, 31, 90])[:, None]
    held = {"tokens": tokens.where(real, torch.tensor(int(kind == "roberta"))), "real": real}
    held["segments"] = torch.zeros_like(tokens)
    for one, other in zip(answered(ours, held)[0], asked(model, held)[0], strict=True):
        assert_close(at_real(one, held), at_real(other, held), rtol=1e-4, atol=1e-4)
