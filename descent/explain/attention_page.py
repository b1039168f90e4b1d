"""Attention as one HTML file: lines between tokens, a layer and a head to choose; nothing is fetched.

Every text of a user stands in a JSON table, whose signs of markup are escaped, and reaches the page through
`textContent` alone.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from descent.errors import UserError
from descent.explain.attention_text import TextAttention

__all__ = ["draw_page", "page"]

MOST = 2_000_000
"""Weights of a page at most, which then is of about 8 MB."""
SCALE = 1000


def draw_page(found: TextAttention, path: Path | str, title: str = "Attention") -> Path:
    """Writes the page.

    Args:
        found: of at most two million weights.
        path: the HTML file to write.
        title: of the page.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UserError("a page must be an HTML file", got=str(path))
    text = page(found, title)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def page(found: TextAttention, title: str = "Attention") -> str:
    """The page as text."""
    count = sum(layer.weights.numel() for layer in found.layers)
    if count > MOST:
        raise UserError(
            "these are too many weights for a page",
            got=f"{count:,}",
            expected=f"at most {MOST:,}",
            hint="choose a layer, a head or rows",
        )
    table = json.dumps([_table(layer) for layer in found.layers], separators=(",", ":"), ensure_ascii=True)
    # inside a script even a JSON string must not begin or end markup
    for sign in "<>&":
        table = table.replace(sign, f"\\u{ord(sign):04x}")
    return _PAGE.replace("@title@", html.escape(title)).replace("@data@", table)


def _table(layer: Any) -> dict[str, Any]:
    top = max(1.0, float(layer.weights.abs().max()))
    return {
        "name": layer.name,
        "kind": layer.kind,
        "rows": layer.rows,
        "keys": layer.keys,
        "heads": layer.heads,
        "weights": (layer.weights / top * SCALE).round().int().tolist(),
    }


_PAGE = """<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@title@</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; color: #1f2733; background: #fff; margin: 1.5rem; }
h1 { font-size: 1.15rem; margin: 0 0 .6rem; }
label { margin-right: 1.2rem; }
svg { display: block; margin-top: .8rem; max-width: 100%; }
text { font-size: 14px; fill: #1f2733; cursor: default; }
text:focus { outline: none; font-weight: bold; }
p { color: #6b7685; }
</style>
</head>
<body>
<h1>@title@</h1>
<label>layer <select id="layer"></select></label>
<label>head <select id="head"></select></label>
<p>Left: the tokens that look. The thicker a line, the more. Point at a token to see its lines alone.</p>
<div id="lines"></div>
<noscript>The lines are drawn by JavaScript.</noscript>
<script type="application/json" id="data">@data@</script>
<script>
"use strict";
const layers = JSON.parse(document.getElementById("data").textContent);
const layer = document.getElementById("layer"), head = document.getElementById("head");
const STEP = 22, LEFT = 260, RIGHT = 520, TOP = 14;
function option(select, value, name) {
  const made = document.createElement("option");
  made.value = value; made.textContent = name; select.append(made);
}
function shape(kind, attributes, parent) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const name in attributes) made.setAttribute(name, attributes[name]);
  parent.append(made);
  return made;
}
function weight(one, row, key) {
  if (head.value !== "mean") return one.weights[head.value][row][key] / 1000;
  return one.weights.reduce((sum, map) => sum + map[row][key], 0) / (1000 * one.weights.length);
}
function draw() {
  const one = layers[layer.value], tall = Math.max(one.rows.length, one.keys.length) * STEP + 2 * TOP;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), lines = [];
  svg.setAttribute("viewBox", `0 0 780 ${tall}`); svg.setAttribute("width", 780);
  const lone = (row, key) => lines.forEach(line => {
    const on = (row < 0 || line.row === row) && (key < 0 || line.key === key);
    line.made.style.display = on ? "" : "none";
  });
  one.rows.forEach((_, row) => one.keys.forEach((_, key) => {
    const size = weight(one, row, key), strength = Math.min(Math.abs(size), 1);
    if (strength < 0.005) return;
    lines.push({row, key, made: shape("line", {
      x1: LEFT + 6, y1: TOP + row * STEP, x2: RIGHT - 6, y2: TOP + key * STEP,
      stroke: size < 0 ? "#d9622b" : "#2f6fb5", "stroke-width": 0.4 + 6 * strength,
      "stroke-opacity": 0.2 + 0.7 * strength, "stroke-linecap": "round"}, svg)});
  }));
  const side = (names, x, anchor, choose) => names.forEach((name, place) => {
    const made = shape("text", {x, y: TOP + place * STEP, "text-anchor": anchor,
      "dominant-baseline": "central", tabindex: 0}, svg);
    made.textContent = name;
    for (const event of ["mouseenter", "focus"]) made.addEventListener(event, () => choose(place));
    for (const event of ["mouseleave", "blur"]) made.addEventListener(event, () => lone(-1, -1));
  });
  side(one.rows, LEFT, "end", row => lone(row, -1));
  side(one.keys, RIGHT, "start", key => lone(-1, key));
  document.getElementById("lines").replaceChildren(svg);
}
function heads() {
  head.replaceChildren();
  if (layers[layer.value].heads.length > 1) option(head, "mean", "mean");
  layers[layer.value].heads.forEach((number, place) => option(head, place, number));
  draw();
}
layers.forEach((one, place) => option(layer, place, `${one.name} (${one.kind})`));
layer.addEventListener("change", heads);
head.addEventListener("change", draw);
heads();
</script>
</body>
</html>
"""
