"""`descent explain` of texts: figures, pages and numbers of Transformers; clear words where it fits not."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from descent.models import build, config_class
from descent.runs.loaded import Loaded
from descent.text import train

EVIL = "</script><script>alert(1)</script> <img src=x onerror=alert(2)> &amp; \u202e好"
MODELS = {
    "gpt": ("document", {"context": 128}, {"kind": "text", "start": [0], "marked": True}),
    "bert": ("bert", {"context": 128}, {"kind": "masked", "length": 64}),
    "transformer": ("document", {}, {"kind": "pairs", "start": [0], "length": 64}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small model of each kind in a folder."""
    found = {}
    for kind, (marks, sizes, preparation) in MODELS.items():
        tokenizer = train("bpe", ["the cat sat on the mat <script> alert"], 300, marks=marks)
        sizes = {"depth": 2, "dim": 24, "heads": 3, "vocab_size": tokenizer.vocab_size, **sizes}
        torch.manual_seed(2)
        model = build(config := config_class(kind).read(sizes))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        folder = tmp_path_factory.mktemp("texts") / kind
        Loaded(model.eval(), config, tokenizer, preparation=preparation).export(folder)
        found[kind] = folder
    return found


class Read(HTMLParser):
    """The elements of a page, the addresses it names and the text that is data."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.links, self.data, self.inside = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        held = dict(attrs)
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        self.inside = tag == "script" and held.get("id") == "data"

    def handle_data(self, data):
        if self.inside:
            self.data += data

    def handle_endtag(self, tag):
        self.inside = False


def test_a_text_is_drawn_as_grid_map_and_lines(descent, folders):
    cross = ("--layer", "cross", "--target", "cat")
    first = descent("explain", folders["transformer"], "the cat").out.strip()
    assert first == "explain-attention.png"
    shapes = {Image.open(first).size}
    for view in ("grid", "map", "lines"):
        args = ("explain", folders["transformer"], "the cat", *cross, "--view", view, "--out", f"{view}.png")
        assert descent(*args).out.strip() == f"{view}.png"
        shapes.add(Image.open(f"{view}.png").size)
    assert len(shapes) == 4
    descent("explain", folders["gpt"], "the cat", "--layer", "0", "--head", "1", "--out", "one.png")
    found = descent(
        "explain", folders["gpt"], "the cat", "--layer=-1", "--head", 1, "--row", 0, "--json"
    ).json
    (layer,) = found["layers"]
    assert (layer["layer"], layer["heads"], layer["rows"]) == ("blocks.1.attention", [1], ["end"])
    assert layer["weights"] == [[[1.0] + [0.0] * (len(layer["keys"]) - 1)]]


@pytest.mark.parametrize("kind", MODELS)
def test_markup_in_a_text_stays_text(descent, folders, kind):
    """Nothing of it is an element of the page or of the SVG, nothing is fetched, and it is shown as it is."""
    text = EVIL + (" [MASK]" if kind == "bert" else "")
    target = ("--target", EVIL) if kind == "transformer" else ()
    descent("explain", folders[kind], text, *target, "--layer", "0", "--out", "a.html")
    raw = Path("a.html").read_text(encoding="utf-8")
    page = Read(raw)
    assert page.tags.count("script") == 2
    assert not set(page.tags) & {"img", "link", "iframe", "object"}
    assert page.links == []
    assert re.findall(r"https?://[^\"]*", raw) == ["http://www.w3.org/2000/svg"] * 2, "a name, not an address"
    assert "default-src 'none'" in raw
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval", raw)
    keys = json.loads(page.data)[0]["keys"]
    shown = "".join(keys).replace("␣", " ")
    assert EVIL.replace("\u202e", "<202E>") in shown
    assert "\u202e" not in raw
    for view in ("lines", "map"):
        descent("explain", folders[kind], text, *target, "--layer", "0", "--view", view, "--out", "a.svg")
        tree = ElementTree.parse("a.svg")
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert not tags & {"script", "img", "a"}
        texts = [element.text or "" for element in tree.iter() if element.tag.endswith("}text")]
        assert "好" in texts


def test_every_method_draws_and_writes_its_numbers(descent, folders):
    methods = {"gpt": ["attention", "rollout", "gradient-attention", "logit-lens", "saliency"]}
    methods["transformer"] = [*methods["gpt"], "gradient-input", "integrated-gradients"]
    methods["bert"] = ["masked", *methods["transformer"]]
    for kind, names in methods.items():
        text = "the [MASK] 好" if kind == "bert" else "the cat 好"
        given = [folders[kind], text, *(["--target", "cat 好"] if kind == "transformer" else [])]
        for method in names:
            descent("explain", *given, "--method", method, "--out", "a.png")
            assert Image.open("a.png").size[0] > 300
            descent("explain", *given, "--method", method, "--out", "a.svg")
            ElementTree.parse("a.svg")
            found = descent("explain", *given, "--method", method, "--out", "a.json", "--json").json
            assert found == json.loads(Path("a.json").read_text(encoding="utf-8"))
            assert (found["method"], found["input"]) == (method, text)
            assert "\ufffd" not in json.dumps({**found, "text": ""}, ensure_ascii=False)


def test_hidden_words_are_a_table(descent, folders):
    found = descent("explain", folders["bert"], "the [MASK] sat", "--method", "masked", "--top", 3)
    lines = found.out.splitlines()
    assert lines[0].split() == ["mark", "token", "probability"]
    assert len(lines) == 5
    facts = descent("explain", folders["bert"], "the [MASK] sat", "--method", "masked", "--json").json
    assert len(facts["hidden"][0]["words"]) == 5
    plain = descent(
        "explain", folders["bert"], "the cat", "--second", "sat", "--method", "masked", "--json"
    ).json
    assert plain["tokens"][-2:] == ["sat", "[SEP]"] or plain["tokens"][-1] == "[SEP]"
    assert abs(sum(plain["log_probabilities"]) - plain["total"]) < 1e-3


def test_layers_are_listed(descent, folders):
    listed = descent("explain", folders["transformer"], "--list", "--json").json
    assert {layer["kind"] for layer in listed} == {"encoder", "decoder", "cross"}
    assert "blocks.0.attention" in descent("explain", folders["gpt"], "--list").out


def test_a_font_that_lacks_a_character_is_said(descent, folders):
    call = ("explain", folders["gpt"], "the \U00012000", "--method", "rollout")  # a cuneiform sign
    assert "an SVG shows them" in descent(*call).err
    assert "an SVG shows them" not in descent(*call, "--out", "a.svg").err
    assert "an SVG shows them" not in descent(*call, "--view", "grid").err, "a grid shows no text"


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("gpt", ["a", "b"], "one text is explained at a time"),
        ("gpt", ["a", "--out", "a.gif"], "ends with .png, .svg, .json, .html"),
        ("gpt", ["a", "--method", "saliency", "--out", "a.html"], "ends with .png, .svg, .json"),
        ("gpt", ["a", "--second", "b"], "a second text is for a BERT"),
        ("gpt", ["a", "--target", "b"], "--target is for models that write a text"),
        ("gpt", ["a", "--method", "masked"], "no head for hidden words"),
        ("gpt", ["a", "--layer", "bloks"], "there is no attention layer"),
        ("gpt", ["a", "--head", "3"], "there is no such head"),
        ("gpt", ["a", "--row", "9"], "there is no such row"),
        ("gpt", ["a", "--method", "rollout", "--row", "9"], "there is no such row"),
        ("gpt", ["a", "--method", "rollout", "--layer", "0"], "rollout of a text takes no --layer"),
        ("gpt", ["a", "--top", "2"], "attention of a text takes no --top"),
        ("gpt", ["a", "--method", "saliency", "--row", "0", "--row", "1"], "one answer is explained"),
        ("gpt", ["the cat sat " * 40], "--layer"),
        ("bert", ["", "--method", "rollout"], "there is no text to explain"),
    ],
)
def test_what_does_not_fit_is_said(descent, folders, kind, arguments, message):
    if message == "--layer":  # of a long text a grid is drawn, a map is not
        descent("explain", folders[kind], *arguments)
        arguments, message = [*arguments, "--view", "map"], "too long to be drawn token by token"
    assert message in descent("explain", folders[kind], *arguments, code=2).err
