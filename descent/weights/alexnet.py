"""AlexNet: the names of torchvision's weights, whose network is the one of 2014.

    features.0 - ReLU - pool - features.3 - ReLU - pool - features.6 - features.8 - features.10 - pool
    classifier.1 - classifier.4 - classifier.6

Numbers in between are layers without weights. It averages the last maps to 6 x 6, which at its published
224 x 224 they already are.
"""

from __future__ import annotations

from descent.weights.keymap import KeyMap, Rule

_LAYERS = {
    "features.0": "c1",
    "features.3": "c2",
    "features.6": "c3",
    "features.8": "c4",
    "features.10": "c5",
    "classifier.1": "f6",
    "classifier.4": "f7",
    "classifier.6": "head",
}

TORCHVISION = KeyMap(
    [
        Rule(f"{theirs}.{part}", f"{ours}.{part}")
        for theirs, ours in _LAYERS.items()
        for part in ("weight", "bias")
    ]
)
