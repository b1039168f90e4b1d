"""How well strings are heard: the loss, word error rates, and strings without a mistake."""

from __future__ import annotations

from torch import Tensor, nn

from descent.data.batches import sweep
from descent.data.dataset import Split
from descent.errors import UserError
from descent.evaluation.result import Evaluation, moved
from descent.generation.ctc import best_path, frame_logs, prefix_beam_search
from descent.objectives.ctc import CTC, ctc_losses, frame_counts, string_lengths

__all__ = ["BEAMS", "NAMES", "score", "word_errors"]

NAMES = ("loss", "wer", "wer_beam", "sequence_accuracy")
BEAMS = 16
"""Prefixes that the beam search of an evaluation follows."""

Strings = list[tuple[int, ...]]


def score(
    model: nn.Module, objective: CTC, split: Split, batch_size: int = 256, device: str = "cpu"
) -> Evaluation:
    """Scores a model on whole strings; every label counts as a word.

    Returns:
        `loss` in nats a label; `wer` the words substituted, left out or put in by the best path, over the
        true words, and `wer_beam` those by beam search; `sequence_accuracy` the share of strings that beam
        search has all right. `examples` are the labels.

    Raises:
        UserError: the split has no labels, or jiwer is not installed.
    """
    total, count = 0.0, 0
    true, greedy, beam = Strings(), Strings(), Strings()
    for batch in sweep(split, batch_size):
        outputs, losses = ctc_losses(model, moved(batch, device))
        total += losses.double().sum().item()
        count += objective.targets(objective.phases[0], batch)
        true += _strings(batch["targets"])
        for logs_TK in frame_logs(outputs, frame_counts(batch)):
            greedy.append(best_path(logs_TK).labels)
            beam.append(prefix_beam_search(logs_TK, BEAMS)[0].labels)
    right = sum(found == wanted for found, wanted in zip(beam, true, strict=True))
    values = {
        "loss": total / max(count, 1),
        "wer": word_errors(true, greedy),
        "wer_beam": word_errors(true, beam),
        "sequence_accuracy": right / max(len(true), 1),
    }
    return Evaluation(values, count)


def word_errors(true: Strings, found: Strings) -> float:
    """The word error rate over all strings: (substituted + left out + put in) / true words.

    Raises:
        UserError: there is no true word, or jiwer is not installed.
    """
    try:
        import jiwer
    except ImportError:
        raise UserError(
            "word error rates are counted by jiwer, which is not installed",
            hint="install the extra: pip install 'descent[sound]'",
        ) from None
    if not any(true):
        raise UserError("the strings hold no label to be scored")
    return float(jiwer.wer([_text(row) for row in true], [_text(row) for row in found]))


def _strings(targets: Tensor) -> Strings:
    lengths = string_lengths(targets).tolist()
    return [tuple(row[:length]) for row, length in zip(targets.tolist(), lengths, strict=True)]


def _text(labels: tuple[int, ...]) -> str:
    # Numbers stand for the names: what matters is which words are the same, and a name may have a space.
    return " ".join(map(str, labels))
