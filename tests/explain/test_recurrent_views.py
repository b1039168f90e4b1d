"""Gates, states and units of recurrent networks, traced, laid out and drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from explain_toys import assert_as_before, condition
from PIL import Image

from descent.errors import UserError
from descent.explain.recurrent import Trace, recurrent_layers, trace
from descent.explain.sequence_figure import _glyph, _laid_out, draw_gates, draw_hidden, draw_units
from descent.explain.sequences import MARK, answers, pieces_of, steps_of_example
from descent.models.rnn import RNN, RNNConfig
from descent.models.seq2seq import Seq2Seq, Seq2SeqConfig
from descent.text import Tokenizer

SIZE = 30


def rnn(cell: str = "lstm", **changes) -> RNN:
    torch.manual_seed(2)
    sizes = {"cell": cell, "depth": 2, "dim": 7, "embedding": 5, "vocab_size": SIZE}
    return RNN(RNNConfig.read({**sizes, **changes})).train()


def tokens(rows: int = 2, time: int = 11) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {"tokens": torch.randint(0, SIZE, (rows, time))}


def is_png(path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG" and min(image.size) > 100


@pytest.mark.parametrize("cell", ["tanh", "relu", "lstm", "gru"])
def test_a_trace_is_what_the_network_computes(cell):
    model, batch = rnn(cell), tokens()
    before = condition(model)
    found = trace(model, batch, pieces="abcdefghijk")
    assert_as_before(model, before)
    model.eval()
    with torch.no_grad():
        top = model.features(batch["tokens"])[0]
    np.testing.assert_allclose(found.values["hidden"][1], top, rtol=1e-4, atol=1e-6)
    assert found.values["hidden"].shape == (2, 11, 7)
    assert (found.module, found.layers, len(found.pieces)) == ("recurrent", ("l0", "l1"), 11)
    wanted = {"lstm": ("input", "forget", "output"), "gru": ("reset", "update")}.get(cell, ())
    assert found.gates == wanted
    for name in found.gates:
        assert ((found.values[name] > 0) & (found.values[name] < 1)).all()


def test_gates_of_an_lstm_make_its_cell():
    values = trace(rnn(), tokens()).values
    made = values["forget"][:, 1:] * values["cell"][:, :-1] + (values["input"] * values["candidate"])[:, 1:]
    np.testing.assert_allclose(values["cell"][:, 1:], made, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        values["hidden"], values["output"] * np.tanh(values["cell"]), rtol=1e-5, atol=1e-6
    )


def test_both_directions_and_padded_rows_of_features():
    torch.manual_seed(4)
    model = RNN(
        RNNConfig(cell="gru", depth=1, dim=6, inputs=(3,), outputs=2, bidirectional=True, pool="last")
    )
    batch = {"inputs": torch.randn(2, 9, 3), "lengths": torch.tensor([5, 9]), "targets": torch.tensor([0, 1])}
    found = trace(model, batch)
    assert found.layers == ("l0", "l0_reverse")
    alone = trace(model, {"inputs": batch["inputs"][:1, :5], "lengths": torch.tensor([5])})
    for name in found.values:
        np.testing.assert_allclose(found.values[name], alone.values[name], rtol=1e-5, atol=1e-6)


def test_a_module_is_chosen_by_its_name():
    torch.manual_seed(5)
    model = Seq2Seq(Seq2SeqConfig(dim=8, depth=1, vocab_size=SIZE, attention="none"))
    assert recurrent_layers(model) == ["encoder", "decoder"]
    source, written = torch.randint(0, SIZE, (1, 6)), torch.randint(0, SIZE, (1, 4))
    batch = {"source": source, "source_lengths": torch.tensor([6]), "tokens": written}
    assert trace(model, batch).values["hidden"].shape == (2, 6, 4)
    assert trace(model, batch, layer="decoder").values["hidden"].shape == (1, 4, 8)
    with pytest.raises(UserError, match="no recurrent layer is called so"):
        trace(model, batch, layer="head")
    with pytest.raises(UserError, match="has no recurrent layer"):
        trace(torch.nn.Embedding(SIZE, 3), tokens())


def test_a_decoder_that_attends_is_said_not_to_be_traced():
    model = Seq2Seq(Seq2SeqConfig(dim=8, depth=1, vocab_size=SIZE, attention="bahdanau"))
    batch = {
        "source": torch.randint(0, SIZE, (1, 6)),
        "source_lengths": torch.tensor([6]),
        "tokens": torch.randint(0, SIZE, (1, 4)),
    }
    assert trace(model, batch).module == "encoder"
    with pytest.raises(UserError, match="cannot be traced"):
        trace(model, batch, layer="decoder")


def made(memory: np.ndarray, **gates: np.ndarray) -> Trace:
    return Trace("recurrent", tuple(f"l{i}" for i in range(len(memory))), {"hidden": memory, **gates})


def test_units_that_vary_most_come_first_and_gates_are_counted():
    memory = np.zeros((2, 4, 3), np.float32)
    memory[1, :, 2], memory[0, :, 1] = [0, 1, 0, 1], [0, 0.5, 0, 0.5]
    assert made(memory).most_varied(2) == [(1, 2), (0, 1)]
    forget = np.full((2, 4, 3), 0.5, np.float32)
    forget[0, :2, :], forget[1, :, 0] = 0.05, 0.95
    shut, opened = made(memory, forget=forget).saturation()["forget"]
    np.testing.assert_allclose(shut, [0.5, 0])
    np.testing.assert_allclose(opened, [0, 1 / 3], rtol=1e-6)
    cells = np.full((2, 4, 3), 2.0, np.float32)
    np.testing.assert_allclose(made(memory, cell=cells).memory, np.tanh(2.0), rtol=1e-6)


def byte_tokenizer() -> Tokenizer:
    from descent.text import TokenizerConfig, obtain

    return obtain(TokenizerConfig(kind="byte"), ["a"], False)


def test_characters_are_whole_at_the_last_of_their_tokens():
    tokenizer = byte_tokenizer()
    ids = [tokenizer.end, *tokenizer.encode("a山b")]
    assert pieces_of(tokenizer, ids) == (MARK, "a", "", "", "山", "b")
    assert pieces_of(tokenizer, ids[:-2])[-1] == "\ufffd"


def test_text_is_laid_out_in_lines():
    cells = _laid_out(["a", "", "山", "\n", "e\u0301x", "y" * 90])
    assert cells[:5] == [
        ("a", 0, 0, 1, 0), ("山", 0, 1, 2, 2), ("\n", 0, 3, 1, 3), ("e\u0301", 1, 0, 1, 4), ("x", 1, 1, 1, 4),
    ]  # fmt: skip
    assert [cell[1] for cell in cells[5:]] == [1] * 78 + [2] * 12
    assert _glyph("\n")[0] == "↵"
    assert _glyph("\U0010fffd")[0] == "·"
    assert _glyph("A") == ("A", 9.0)
    assert _glyph("\U00013000")[0] in ("\U00013000", "130\n00")


@pytest.mark.parametrize("pieces", [(), ("山", "b", "\n", *"cdefghij")], ids=["features", "text"])
def test_every_view_draws_a_figure(tmp_path, pieces):
    found = trace(rnn(), tokens(), pieces=pieces)
    assert is_png(draw_gates(found, tmp_path / "gates.png"))
    assert is_png(draw_hidden(found, tmp_path / "hidden.png"))
    assert is_png(draw_units(found, found.most_varied(2), tmp_path / "units.png"))
    with pytest.raises(UserError, match="must be a PNG"):
        draw_hidden(found, tmp_path / "hidden.pdf")


def test_a_packed_row_is_cut_to_its_first_document():
    class Split:
        def gather(self, indices, seed=None, epoch=0):
            return {
                "tokens": torch.tensor([[65, 66, 67, 68]]),
                "targets": torch.tensor([[66, 67, 68, -100]]),
                "documents": torch.tensor([[0, 0, 1, 1]]),
            }

    steps = steps_of_example(Split(), 0, byte_tokenizer(), "test:0")  # type: ignore[arg-type]
    assert steps.batch["tokens"].tolist() == [[65, 66]]
    assert len(steps.pieces) == 2


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    from descent.cli import main

    folder = tmp_path_factory.mktemp("text")
    lines = "\n".join(f"山 {a}{b} river {b}{a}" for a in "abcdefgh" for b in "klmnopqr")
    (folder / "text.txt").write_text(lines * 3, encoding="utf-8")
    changes = [
        f"data.path={folder / 'text.txt'}", "data.length=24", "tokenizer.kind=byte", "tokenizer.vocab_size=0",
        "model.dim=8", "model.embedding=6", "model.depth=1", "budget.steps=3", "budget.batch_size=4",
        "evaluation.every=0", "samples.every=0", "precision=fp32",
    ]  # fmt: skip
    assert main(["train", "lstm", *changes, "--quiet", "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_the_command_shows_what_a_run_remembers(text_run, command):
    import descent

    facts = command(text_run, "--method", "units", "--unit", 3, "--text", "a山b", "--json").json
    loaded = descent.load(text_run)
    assert "".join(facts["steps"]).endswith("a山b")
    ids = [*loaded.preparation["start"], *loaded.tokenizer.encode("a山b")]
    marked = ids if loaded.preparation["marked"] else ids[1:]
    found = trace(loaded.model, {"tokens": torch.tensor([marked])})
    np.testing.assert_allclose(facts["units"][0]["values"], found.memory[0, :, 3], rtol=1e-4, atol=1e-6)
    assert is_png("explain-units.png")
    gates = command(text_run, "--method", "gates", "--json").json
    assert gates["input"] == "validation:0"
    assert set(gates["layers"][0]["gates"]) == {"input", "forget", "output"}
    hidden = command(text_run, "validation:1", "--method", "hidden", "--out", "x.png", "--json").json
    assert np.array(hidden["layers"][0]["hidden"]).shape == (len(hidden["steps"]), 8)
    assert is_png("x.png")
    for wrong, words in {
        ("--method", "gates", "--unit", 1): "takes no --unit",
        ("--method", "units", "--unit", 8): "no such unit",
        ("--method", "gates", "--text", ""): "no text to explain",
        ("--method", "gradcam", "--text", "a"): "view of a sequence",
        ("validation:9999", "--method", "gates"): "no such example",
        ("a.wav", "--method", "gates"): "reads no such file",
    }.items():
        assert words in command(text_run, *wrong, code=2).err, wrong


def test_the_command_measures_saliency_and_distance(text_run, command):
    found = command(text_run, "--method", "saliency", "--text", "river", "--target", "a", "--json").json
    assert found["target"] == "'a'"
    assert len(found["values"]) == len(found["steps"])
    facts = command(text_run, "--method", "gradient-distance", "--against", text_run, "--json").json
    assert [run["run"] for run in facts["runs"]] == [text_run.name, str(text_run)]
    assert facts["runs"][0]["norms"] == facts["runs"][1]["norms"]
    assert facts["runs"][0]["norms"] != facts["runs"][0]["before_training"]
    assert is_png("explain-gradient-distance.png")
    assert json.loads(json.dumps(facts)) == facts


def test_images_keep_their_methods_and_refuse_those_of_sequences(lenet_run, pictures, command):
    assert command(lenet_run, pictures[0], "--method", "saliency").out.strip() == "explain-saliency.png"
    assert "has no recurrent layer" in command(lenet_run, "test:0", "--method", "gates", code=2).err
    assert "read over time" in command(lenet_run, pictures[0], "--unit", 1, code=2).err


def test_a_language_model_is_called_by_position_and_others_by_name():
    model, batch = rnn(), tokens()
    torch.testing.assert_close(answers(model.eval(), batch), model(batch["tokens"]))
