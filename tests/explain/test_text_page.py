"""The page and figures of attention: tokens of markup stay text, and what does not fit is refused."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from descent.errors import UserError
from descent.explain import AttentionLayer, TextAttention, draw_heads, draw_lines, draw_map, draw_page
from descent.explain import attention_page as module

EVIL = ("</script><script>alert(1)</script>", "<!--<script>", "<b>&lt;", "]]><a>", '"\\u003c"', "$x^2$")


def layer(rows=EVIL, heads=2) -> AttentionLayer:
    weights = torch.rand(heads, len(rows), len(rows), generator=torch.Generator().manual_seed(1))
    return AttentionLayer("blocks.0", "self", rows, rows, tuple(range(heads)), weights.softmax(-1))


def test_tokens_and_titles_of_markup_stay_text(tmp_path):
    found = TextAttention((layer(),))
    raw = draw_page(found, tmp_path / "new" / "a.html", EVIL[0]).read_text(encoding="utf-8")
    assert raw.count("<script") == raw.count("</script") == 2
    assert "<!--" not in raw
    assert raw.count("&lt;/script&gt;&lt;script&gt;alert(1)") == 2, "the title, and the heading"
    data = re.search(r'id="data">(.*?)</script>', raw, re.DOTALL)
    assert data is not None
    assert not set("<>&") & set(data[1])
    (table,) = json.loads(data[1])
    assert tuple(table["rows"]) == tuple(table["keys"]) == EVIL
    weights = torch.tensor(table["weights"]) / 1000
    torch.testing.assert_close(weights, found.layers[0].weights, rtol=0, atol=5.1e-4)


@pytest.mark.parametrize("draw", [draw_lines, draw_map])
def test_an_svg_holds_them_as_text(tmp_path, draw):
    tree = ElementTree.parse(draw(layer(), tmp_path / "a.svg", "Attention"))
    texts = [element.text for element in tree.iter() if element.tag.endswith("}text")]
    assert all(texts.count(name[:15] + "…" if len(name) > 16 else name) == 2 for name in EVIL)
    assert not {"script", "a", "b"} & {element.tag.rpartition("}")[2] for element in tree.iter()}


def test_a_row_of_the_arrays_is_a_line(tmp_path):
    """As many lines as weights over half a hundredth, thick ones for great weights."""
    one = layer(("a", "b", "c"), 1)
    weights = torch.tensor([[[0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.001, 0.0, 0.999]]])
    one = AttentionLayer("l", "self", one.rows, one.keys, (0,), weights)
    raw = draw_lines(one, tmp_path / "a.svg").read_text(encoding="utf-8")
    lines = re.search(r'<g id="LineCollection_1">(.*?)</g>', raw, re.DOTALL)
    assert lines is not None
    widths = [float(width) for width in re.findall(r"stroke-width: ([0-9.]+)", lines[1])]
    assert len(widths) == 4
    assert [round(width, 1) for width in widths] == [4.5, 2.4, 2.4, 4.5]


def test_what_is_too_much_to_draw_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="too long to be drawn token by token"):
        draw_map(layer(("a",) * 81, 1), tmp_path / "a.png")
    with pytest.raises(UserError, match="too many heads"):
        draw_heads(TextAttention((layer(("a",), 601),)), tmp_path / "a.png")
    with pytest.raises(UserError, match="must be a PNG or an SVG"):
        draw_map(layer(), tmp_path / "a.pdf")
    with pytest.raises(UserError, match="must be an HTML file"):
        draw_page(TextAttention((layer(),)), tmp_path / "a.png")
    monkeypatch.setattr(module, "MOST", 71)
    with pytest.raises(UserError, match="too many weights for a page"):
        draw_page(TextAttention((layer(),)), tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
