"""What a folder or a file of published weights holds, before a model is built from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from descent.config import Config
from descent.models import build
from descent.text.chat import Chat
from descent.weights import safetensors_file


@dataclass(frozen=True)
class Pretrained:
    """What a folder holds.

    Attributes:
        config: the model's configuration.
        state: its tensors under our names.
        tokenizer: path of its tokenizer.json, or of a BERT's vocab.txt, or None.
        generation: fields of `generation.Settings` its authors recommend (may be empty).
        chat: how it was taught to converse, if its files say so.
        extra: the table that was given to `export` as `extra`; of an image classifier of another library the
            same fields (labels, preparation, loss), from what its files say; else empty.
    """

    config: Config
    state: dict[str, Tensor]
    tokenizer: Path | None
    generation: dict[str, Any]
    extra: dict[str, Any]
    chat: Chat | None = None

    def model(self, where: str = "the folder") -> nn.Module:
        """The model with these weights, in their dtype and in evaluation mode.

        Args:
            where: what they were read from, for the `UserError` that lists every weight that does not fit.
        """
        model = build(self.config)
        dtypes = {tensor.dtype for tensor in self.state.values() if tensor.is_floating_point()}
        if len(dtypes) == 1:
            model.to(dtypes.pop())
        safetensors_file.load_into(model, self.state, where)
        return model.eval()
