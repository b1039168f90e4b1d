"""Music by a model of frames or by a language model of voices.

Frames are drawn key by key, each with its own probability. Voices are tokens, drawn by the one decoder
under a rule: at every place only the notes of the voice whose turn it is.

Legend: T steps, K keys (88), V voices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from descent.config import Config, Field
from descent.data.midi import KEYS, Roll
from descent.data.music_splits import END, REST, pitches_of, tokens_of
from descent.errors import UserError
from descent.generation.decode import generate
from descent.generation.protocol import device_of
from descent.generation.sampling import uniforms
from descent.generation.settings import Settings

__all__ = ["FrameSettings", "sample_frames", "sample_voices", "voice_rule"]

Voices = Int[np.ndarray, "_ voices"]
Preparation = Mapping[str, Any]


class FrameSettings(Config):
    """How frames are drawn.

    Attributes:
        steps: frames to draw.
        temperature: divisor of the logits; below 1 fewer unlikely keys sound, 0 = those over 1/2.
        most: keys that sound at once at most; of more that were drawn the most probable stay. 0 = as many as
            in the training pieces.
        seed: of the stream that is drawn from.
    """

    steps: int = Field(default=64, ge=1, le=100_000)
    temperature: float = Field(default=1.0, ge=0)
    most: int = Field(default=0, ge=0, le=KEYS)
    seed: int = Field(default=0, ge=0, lt=2**63)


@torch.inference_mode()
def sample_frames(
    model: Any, preparation: Preparation, settings: FrameSettings | None = None, prompt: Roll | None = None
) -> Roll:
    """The frames that follow a prompt, or silence.

    Only keys between the lowest and the highest of the training pieces sound.

    Args:
        model: of frames, with the cache protocol; in evaluation mode while it draws.
        preparation: of the data it was trained on.
        settings: see `FrameSettings`.
        prompt: the frames to go on from; none = a new piece.

    Returns:
        (steps, 88), without the prompt.
    """
    settings = settings or FrameSettings()
    low, high = preparation["keys"]
    most = settings.most or preparation["most"]
    device, training = device_of(model), model.training
    chance_TK = uniforms([settings.seed], settings.steps * KEYS).reshape(settings.steps, KEYS)
    drawn_TK = np.zeros((settings.steps, KEYS), dtype=np.bool_)
    heard = np.zeros((1, KEYS)) if prompt is None else np.concatenate([np.zeros((1, KEYS)), prompt])
    model.eval()
    try:
        cache = model.new_cache(1)
        fed = torch.from_numpy(heard).float().to(device)[None]
        for step in range(settings.steps):
            logits_K = model(fed, cache=cache)[0, -1].double().cpu()
            drawn_TK[step, low : high + 1] = _frame(
                logits_K[low : high + 1], chance_TK[step, low : high + 1], settings.temperature, most
            ).numpy()
            fed = torch.from_numpy(drawn_TK[step]).float().to(device)[None, None]
    finally:
        model.train(training)
    return drawn_TK


def _frame(
    logits: Float[Tensor, " keys"], chance: Float[Tensor, " keys"], temperature: float, most: int
) -> Bool[Tensor, " keys"]:
    on = logits > 0 if temperature == 0 else chance < torch.sigmoid(logits / temperature)
    if int(on.sum()) > most:
        kept = logits.masked_fill(~on, -torch.inf).topk(most).indices
        on = torch.zeros_like(on).index_fill_(0, kept, True)
    return on


def sample_voices(
    model: nn.Module,
    preparation: Preparation,
    steps: int = 256,
    prompt: Voices | None = None,
    **settings: Any,
) -> Voices:
    """What follows a prompt, or a new piece, step by step in all voices, until it ends or `steps` are full.

    A model of a limited context (a GPT) writes the whole steps that it has room for.

    Args:
        model: a language model of these voices.
        preparation: of the data it was trained on.
        steps: steps to draw at most.
        prompt: MIDI notes of each voice, -1 for silence.
        settings: fields of `Settings` that say how tokens are drawn: temperature, top_k, top_p, min_p, seed.

    Returns:
        (steps, V) MIDI notes, -1 for silence, without the prompt; each voice in the range of its part in the
        training pieces.

    Raises:
        UserError: the prompt has another number of voices, or a note that no training piece has.
    """
    count = len(preparation["voices"])
    chosen = Settings.read({**settings, "max_new_tokens": steps * count, "stop_ids": [END]}, where="generate")
    ids = [END] if prompt is None else [END, *_encoded(prompt, preparation)]
    found = generate(model, [ids], chosen, allowed=voice_rule(preparation, len(ids)))
    tokens = found[0].tokens
    drawn = np.array(tokens[: len(tokens) // count * count], dtype=np.int64).reshape(-1, count)
    return pitches_of(drawn, preparation["lowest"])


def voice_rule(
    preparation: Preparation, begun: int = 1
) -> Callable[[Sequence[int]], Bool[Tensor, " vocabulary"]]:
    """Which tokens may follow: the notes of the voice whose turn it is, its rest if it had any in training.

    A piece may end between two steps, once a step was added.

    Args:
        preparation: of the data.
        begun: tokens of the prompt.
    """
    ranges, lowest = preparation["ranges"], preparation["lowest"]
    size = 2 + preparation["highest"] - lowest + 1
    rule_VC = torch.zeros(len(ranges), size, dtype=torch.bool)
    for row, (low, high), rests in zip(rule_VC, ranges, preparation["rests"], strict=True):
        first, last = tokens_of(np.array([low, high]), lowest).tolist()
        row[first : last + 1] = True
        row[REST] = rests
    ending = rule_VC[0].clone()
    ending[END] = True

    def allowed(tokens: Sequence[int]) -> Bool[Tensor, " vocabulary"]:
        voice = (len(tokens) - 1) % len(ranges)
        return ending if voice == 0 and len(tokens) > begun else rule_VC[voice]

    return allowed


def _encoded(prompt: Voices, preparation: Preparation) -> list[int]:
    names, lowest, highest = preparation["voices"], preparation["lowest"], preparation["highest"]
    if prompt.shape[1] != len(names):
        raise UserError("the prompt has other voices", got=prompt.shape[1], expected=f"{len(names)}")
    outside = prompt[(prompt >= 0) & ((prompt < lowest) | (prompt > highest))]
    if len(outside):
        raise UserError(
            "the prompt has a note that no piece of the data has",
            got=f"MIDI note {outside[0]}",
            expected=f"{lowest} to {highest}",
            hint="move the prompt up or down",
        )
    return tokens_of(prompt, lowest).reshape(-1).tolist()
