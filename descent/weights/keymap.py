"""Published names of weights to ours and back, from one table that is read in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from descent.errors import UserError
from descent.models import build

Numbers = dict[str, int]
SHOWN = 20
"""Differences that an error lists."""

_NUMBER = re.compile(r"\{([a-z])(\+1)?\}")


@dataclass(frozen=True)
class Rule:
    """One kind of tensor.

    A letter in braces stands for a layer's number, the same one on both sides; `{n+1}` where it is counted
    from 1: `layer{n+1}.{m}.bn1.bias` and `stages.{n}.{m}.norm.bias`.

    Args:
        theirs: pattern of the published name, for example `h.{n}.mlp.c_fc.weight`; several where what is one
            tensor here is kept in equal parts there, the first rows first.
        ours: pattern of our name; None = deliberately ignored.
        transpose: whether the matrix is stored the other way round.
        absent: for a tensor that some files lack and that then starts at 0: its type.
    """

    theirs: str | tuple[str, ...]
    ours: str | None
    transpose: bool = False
    absent: torch.dtype | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The published patterns, one or several."""
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs

    def their_shape(self, ours: Sequence[int]) -> tuple[int, ...]:
        """Shape of each published part of a tensor that has the shape `ours` here."""
        count = len(self.parts)
        shape = (ours[0] // count, *ours[1:]) if count > 1 else tuple(ours)
        return shape[::-1] if self.transpose else shape

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Our tensor from the published parts."""
        turned = [part.T.contiguous() if self.transpose else part for part in parts]
        return turned[0] if len(turned) == 1 else torch.cat(turned)

    def divide(self, ours: Tensor) -> list[Tensor]:
        """The published parts of our tensor."""
        count = len(self.parts)
        parts = [ours] if count == 1 else [part.clone() for part in ours.chunk(count)]
        return [part.T.contiguous() for part in parts] if self.transpose else parts


class KeyMap:
    """A table of rules, complete in both directions: a name without a rule is an error, never a guess.

    Args:
        rules: of several that fit a name, the first counts; so a second rule for the same tensor of ours
            reads an older name, which is never written.
        prefix: what published names may begin with (all of them or none).
    """

    def __init__(self, rules: Sequence[Rule], prefix: str = ""):
        self.rules, self.prefix = tuple(rules), prefix

    def to_ours(
        self, theirs: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]], where: str
    ) -> dict[str, Tensor]:
        """Our tensors from published ones.

        Args:
            theirs: published name -> tensor.
            shapes: our name -> the shape it must have: every name the model needs.
            where: what `theirs` was read from, for the error.

        Raises:
            UserError: lists every missing name, every name no rule knows, every other shape.
        """
        found: dict[str, tuple[Rule, dict[int, str]]] = {}
        problems: list[str] = []
        for name, tensor in theirs.items():
            match = self._rule(name.removeprefix(self.prefix))
            if match is None:
                problems.append(f"{name}: not expected")
                continue
            rule, part, numbers = match
            if rule.ours is None:
                continue
            ours = _fill(rule.ours, numbers)
            if ours not in shapes:
                problems.append(f"{name}: not expected (the model has no {ours})")
                continue
            names = found.setdefault(ours, (rule, {}))[1]
            expected = rule.their_shape(shapes[ours])
            if part in names:
                problems.append(f"{name}: stands there twice, also as {names[part]}")
            elif tuple(tensor.shape) != expected:
                problems.append(f"{name}: {_size(tensor.shape)}, expected {_size(expected)}")
            names[part] = name
        problems += self._missing(shapes, {name: set(parts) for name, (_, parts) in found.items()})
        if problems:
            raise _refusal(where, problems)
        state = {
            ours: rule.join([theirs[names[part]] for part in range(len(rule.parts))])
            for ours, (rule, names) in found.items()
        }
        return {**state, **self._zeros(shapes, state)}

    def to_theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published names and layouts for our tensors; a name without a rule raises a `UserError`."""
        rules = {name: self._by_ours(name) for name in ours}
        unknown = [f"{name}: no published name is known" for name, rule in rules.items() if rule is None]
        if unknown:
            raise _refusal("the model", unknown)
        return {
            theirs: part
            for name, tensor in ours.items()
            if (rule := rules[name]) is not None
            for theirs, part in zip(self.names(name), rule.divide(tensor), strict=True)
        }

    def names(self, ours: str) -> tuple[str, ...]:
        """The published names of our tensor; its own where no rule knows it."""
        for rule in self.rules:
            numbers = None if rule.ours is None else _read(rule.ours, ours)
            if numbers is not None:
                return tuple(self.prefix + _fill(part, numbers) for part in rule.parts)
        return (ours,)

    def _missing(self, shapes: Mapping[str, Any], found: Mapping[str, set[int]]) -> list[str]:
        problems = []
        for ours in shapes:
            rule = self._by_ours(ours)
            if rule is not None and rule.absent is not None:
                continue
            held = found.get(ours, set())
            problems += [f"{n}: missing" for part, n in enumerate(self.names(ours)) if part not in held]
        return problems

    def _zeros(self, shapes: Mapping[str, Sequence[int]], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the file may lack."""
        rules = {ours: rule for ours in shapes if ours not in state and (rule := self._by_ours(ours))}
        return {ours: torch.zeros(tuple(shapes[ours]), dtype=rule.absent) for ours, rule in rules.items()}

    def _rule(self, bare: str) -> tuple[Rule, int, Numbers] | None:
        for rule in self.rules:
            for part, pattern in enumerate(rule.parts):
                numbers = _read(pattern, bare)
                if numbers is not None:
                    return rule, part, numbers
        return None

    def _by_ours(self, ours: str) -> Rule | None:
        known = (rule for rule in self.rules if rule.ours is not None and _read(rule.ours, ours) is not None)
        return next(known, None)


def model_shapes(config: Any, tensors: Mapping[str, Tensor], where: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all that the model of a configuration holds, found without memory for it.

    Args:
        config: read from a file, so it may say anything.
        tensors: what the file beside it holds; a model has no more layers than that has tensors.
        where: what both were read from, for the error.

    Raises:
        UserError: more layers than tensors, or sizes that no tensor can have.
    """
    layers = sum(getattr(config, "depths", ())) or getattr(config, "depth", 0)
    layers += getattr(config, "decoder_depth", 0)
    if layers > len(tensors):
        raise UserError(
            f"{where}: the configuration and the weights do not belong together",
            got=f"{layers:,} layers and {len(tensors):,} tensors",
        )
    try:
        with torch.device("meta"):
            return {name: tuple(tensor.shape) for name, tensor in build(config).state_dict().items()}
    except (RuntimeError, OverflowError):  # a number of elements, or of bytes, that 64 bits do not hold
        raise UserError(f"{where}: the configuration names sizes that no tensor can have") from None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> tuple[re.Pattern[str], tuple[tuple[str, int], ...]]:
    """What names of a pattern look like, and its letters, each with the number counting starts at."""
    letters = tuple((place.group(1), int(place.group(2) is not None)) for place in _NUMBER.finditer(pattern))
    fixed = [re.escape(text) for text in _NUMBER.sub("\0", pattern).split("\0")]
    return re.compile(r"(0|[1-9]\d{0,5})".join(fixed), re.ASCII), letters


def _read(pattern: str, name: str) -> Numbers | None:
    """The numbers in a name that fits the pattern."""
    shape, letters = _compiled(pattern)
    match = shape.fullmatch(name)
    if match is None:
        return None
    pairs = zip(letters, match.groups(), strict=True)
    numbers = {letter: int(text) - start for (letter, start), text in pairs}
    return None if any(number < 0 for number in numbers.values()) else numbers


def _fill(pattern: str, numbers: Numbers) -> str:
    return _NUMBER.sub(lambda place: str(numbers[place.group(1)] + bool(place.group(2))), pattern)


def _refusal(where: str, problems: list[str]) -> UserError:
    count = f"{len(problems)} difference{'s' if len(problems) > 1 else ''}"
    lines = [f"  {problem}" for problem in sorted(problems)[:SHOWN]]
    more = [f"  ... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return UserError("\n".join([f"{where} does not fit the model: {count}", *lines, *more]))


def _size(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
