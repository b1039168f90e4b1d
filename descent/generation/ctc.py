"""From the frames of a CTC model to labels: the best path, the best labelling, and where each label is.

The model gives at every frame a probability of each class and, last, of the blank. A path is one of them a
frame; its labelling is what is left when repeats are merged and then blanks taken out. The probability of a
labelling is the sum over its paths, so the labelling of the most probable path need not be the most probable.

A. Graves et al., Connectionist temporal classification, 2006, section 3.2; A. Hannun et al., First-pass large
vocabulary continuous speech recognition using bi-directional recurrent DNNs, 2014, section 3.

Legend: B batch, T frames, K classes and the blank, N states of an alignment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from descent.errors import UserError

__all__ = ["Labelling", "align", "best_path", "decode_words", "frame_logs", "prefix_beam_search"]

LOG_ZERO = -math.inf


@dataclass(frozen=True)
class Labelling:
    """A string of labels.

    Attributes:
        labels: class numbers.
        score: natural logarithm of its probability: from `best_path` that of this path alone, from
            `prefix_beam_search` that of all the paths it followed.
    """

    labels: tuple[int, ...]
    score: float


def best_path(logs_TK: Float[Tensor, "time outputs"]) -> Labelling:
    """The labelling of the most probable path (greedy decoding).

    Args:
        logs_TK: log-probabilities of each frame, the blank last.
    """
    best = logs_TK.max(1)
    blank = logs_TK.shape[1] - 1
    path = best.indices.unique_consecutive().tolist()
    return Labelling(tuple(label for label in path if label != blank), float(best.values.double().sum()))


def prefix_beam_search(
    logs_TK: Float[Tensor, "time outputs"], beams: int = 16, *, results: int = 1, least: float = 1e-4
) -> list[Labelling]:
    """The most probable labellings, best first, looked for frame by frame among prefixes.

    Paths that end in a blank and paths that end in a label are summed apart, for after a blank the same label
    is a new one. For a prefix l, its last label c and the probabilities p of a frame,

        blank'(l)    = p(blank) (blank(l) + label(l))
        label'(l)    = p(c) label(l)
        label'(l k) += p(k) (blank(l) + label(l)), or p(k) blank(l) where k = c

    and the `beams` prefixes with the largest sums go on. With room for all prefixes, and `least` 0, this
    finds the most probable labelling. A prefix that was dropped starts anew when it comes up again (Hannun et
    al. keep its sums), and no language model takes part.

    Args:
        logs_TK: log-probabilities of each frame, the blank last.
        beams: prefixes followed at once.
        results: how many are returned, if so many were found.
        least: the smallest probability with which a frame can add a label, which saves most of the work.

    Raises:
        UserError: fewer beams than one.
    """
    if beams < 1:
        raise UserError("beams: there must be one at least", got=beams)
    smallest = math.log(least) if least > 0 else LOG_ZERO
    running: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, LOG_ZERO)}
    for *classes, blank in logs_TK.double().tolist():
        likely = [(k, p) for k, p in enumerate(classes) if p >= smallest and p > LOG_ZERO]
        ends_blank: dict[tuple[int, ...], float] = {}
        ends_label: dict[tuple[int, ...], float] = {}
        for prefix, (after_blank, after_label) in running.items():
            either = _add(after_blank, after_label)
            ends_blank[prefix] = either + blank
            if prefix:
                stays = after_label + classes[prefix[-1]]
                ends_label[prefix] = _add(ends_label.get(prefix, LOG_ZERO), stays)
            for k, p in likely:
                longer = (*prefix, k)
                before = after_blank if prefix[-1:] == (k,) else either
                if before > LOG_ZERO:
                    ends_label[longer] = _add(ends_label.get(longer, LOG_ZERO), before + p)
        sums = {
            prefix: (ends_blank.get(prefix, LOG_ZERO), ends_label.get(prefix, LOG_ZERO))
            for prefix in ends_blank.keys() | ends_label.keys()
        }
        # the prefix itself settles ties, so that no order of a set shows
        ranked = sorted(sums, key=lambda prefix: (-_add(*sums[prefix]), prefix))
        running = {prefix: sums[prefix] for prefix in ranked[:beams]}
    return [Labelling(prefix, _add(*running[prefix])) for prefix in list(running)[:results]]


def align(logs_TK: Float[Tensor, "time outputs"], labels: Sequence[int]) -> list[tuple[int, int]]:
    """Where each label is in the most probable path of a labelling: its first frame, and one after its last.

    The path goes through the states blank, label, blank, label, ..., blank, one a frame: it stays, goes on to
    the next, or skips a blank between two labels that differ (Viterbi's algorithm; Graves et al., figure 3).
    Models trained by CTC tend to give a label for a few frames only, so these are places, not extents.

    Raises:
        ValueError: there are too few frames for the labels.
    """
    if not labels:
        return []
    blank = logs_TK.shape[1] - 1
    states = [blank] + [state for label in labels for state in (label, blank)]
    rows = logs_TK[:, states].double().tolist()
    skips = [n >= 2 and states[n] != blank and states[n] != states[n - 2] for n in range(len(states))]
    ways = [range(n, max(n - 2 - skip, -1), -1) for n, skip in enumerate(skips)]
    best_N = [0.0] + [LOG_ZERO] * (len(states) - 1)
    came_TN: list[list[int]] = []
    for row in rows:  # before the first frame the path is as if at the first blank
        came_TN.append([max(befores, key=best_N.__getitem__) for befores in ways])
        best_N = [best_N[before] + p for before, p in zip(came_TN[-1], row, strict=True)]
    state = max(len(states) - 1, len(states) - 2, key=best_N.__getitem__)
    if best_N[state] == LOG_ZERO:
        raise ValueError(f"{len(labels)} labels do not fit into {len(rows)} frames")
    frames: list[list[int]] = [[] for _ in labels]
    for time in range(len(rows) - 1, -1, -1):
        if state % 2:
            frames[state // 2].append(time)
        state = came_TN[time][state]
    return [(found[-1], found[0] + 1) for found in frames]


def decode_words(
    outputs: Float[Tensor, "batch time outputs"],
    lengths: Int[Tensor, " batch"],
    labels: Sequence[str],
    beams: int = 16,
    hop: float | None = None,
) -> list[dict[str, Any]]:
    """What a CTC model heard, a JSON-ready answer for each row.

    Args:
        outputs: logits of each class and, last, of the blank.
        lengths: frames of each row.
        labels: the names of the classes.
        beams: prefixes that the search follows; 1 takes the best path.
        hop: seconds from the start of one frame to that of the next.

    Returns:
        `text`, the words joined by spaces; `score`, the natural logarithm of its probability; `words`, each
        with its `word` and `frames`: where its best alignment has it, first and one after the last; with
        `hop` also the `seconds` at which those begin.
    """
    found = []
    for logs_TK in frame_logs(outputs, lengths):
        best = best_path(logs_TK) if beams == 1 else prefix_beam_search(logs_TK, beams)[0]
        words: list[dict[str, Any]] = []
        for label, span in zip(best.labels, align(logs_TK, best.labels), strict=True):
            words.append({"word": labels[label], "frames": list(span)})
            if hop is not None:
                words[-1]["seconds"] = [round(frame * hop, 3) for frame in span]
        found.append({"text": " ".join(word["word"] for word in words), "score": best.score, "words": words})
    return found


def frame_logs(
    outputs: Float[Tensor, "batch time outputs"], lengths: Int[Tensor, " batch"]
) -> list[Float[Tensor, "_ outputs"]]:
    """The log-probabilities of each row's own frames, on the CPU."""
    logs_BTK = outputs.detach().float().log_softmax(-1).cpu()
    return [row[:length] for row, length in zip(logs_BTK, lengths.tolist(), strict=True)]


def _add(left: float, right: float) -> float:
    """log(exp(left) + exp(right))."""
    if left < right:
        left, right = right, left
    return left if right == LOG_ZERO else left + math.log1p(math.exp(right - left))
