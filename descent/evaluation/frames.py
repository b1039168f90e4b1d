"""How well frames of music are predicted, over every frame of a split.

The published convention (S. Bai et al., 2018, and the tables it compares with) predicts the frames 2..T of
each piece from those before, and divides the sum over all pieces by the number of all frames predicted: that
is `loss`. With the first frame predicted from silence as well, it is `loss_from_silence`.
"""

from __future__ import annotations

from torch import Tensor, nn

from descent.data.batches import sweep
from descent.data.dataset import Split
from descent.errors import UserError
from descent.evaluation.result import Evaluation
from descent.objectives.frames import Frames, frame_losses, real_frames
from descent.objectives.objective import model_inputs

__all__ = ["NAMES", "score"]

NAMES = ("loss", "loss_from_silence", "accuracy")


def score(
    model: nn.Module, objective: Frames, split: Split, batch_size: int = 256, device: str = "cpu"
) -> Evaluation:
    """Scores a model on whole pieces.

    Returns:
        `loss` and `loss_from_silence` in nats a frame; `accuracy` TP / (TP + FP + FN) over the keys of
        the frames 2..T, a key being predicted where its probability is above 1/2 (M. Bay et al., Evaluation
        of multiple-F0 estimation and tracking systems, ISMIR, 2009, equation 3).

    Raises:
        UserError: no piece has a second frame.
    """
    total, first, frames, pieces = 0.0, 0.0, 0, 0
    right, wrong = 0, 0
    for batch in sweep(split, batch_size):
        moved = {name: value.to(device) for name, value in batch.items()}
        targets, lengths = moved["targets"], moved["lengths"]
        outputs = model(**model_inputs(moved))
        losses = frame_losses(outputs, targets, lengths).double()
        total, first = total + losses[:, 1:].sum().item(), first + losses[:, :1].sum().item()
        later = real_frames(lengths, targets.shape[1])[:, 1:]
        pieces, frames = pieces + int((lengths > 0).sum()), frames + int(later.sum())
        hits, misses = _keys(outputs[:, 1:] > 0, targets[:, 1:] > 0, later)
        right, wrong = right + hits, wrong + misses
    if not frames:
        raise UserError("the pieces are too short to be scored", expected="one of two frames or more")
    values = {
        "loss": total / frames,
        "loss_from_silence": (total + first) / (frames + pieces),
        "accuracy": right / max(right + wrong, 1),
    }
    return Evaluation(values, frames)


def _keys(predicted: Tensor, true: Tensor, counted: Tensor) -> tuple[int, int]:
    """Keys that sound and were predicted, and keys where only one of the two holds."""
    counted = counted[..., None]
    right, wrong = predicted & true & counted, (predicted ^ true) & counted
    return int(right.sum()), int(wrong.sum())
