"""Published names of weights to ours and back, from one table that is read in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from descent.errors import UserError

NUMBER = "{n}"
"""Stands for a layer's number in a pattern, the same one on both sides."""


@dataclass(frozen=True)
class Rule:
    """One kind of tensor.

    Args:
        theirs: pattern of the published name, for example `h.{n}.mlp.c_fc.weight`.
        ours: pattern of our name; None = deliberately ignored.
        transpose: whether the matrix is stored the other way round.
    """

    theirs: str
    ours: str | None
    transpose: bool = False


class KeyMap:
    """A table of rules, complete in both directions: a name without a rule is an error, never a guess.

    Args:
        rules: of several that fit a name, the first counts.
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
        found: dict[str, Tensor] = {}
        problems: list[str] = []
        for name, tensor in theirs.items():
            match = _first(((rule, rule.theirs) for rule in self.rules), self._bare(name))
            if match is None:
                problems.append(f"{name}: not expected")
                continue
            rule, number = match
            if rule.ours is None:
                continue
            ours = rule.ours.replace(NUMBER, number)
            value = tensor.T.contiguous() if rule.transpose and tensor.dim() == 2 else tensor
            if ours not in shapes:
                problems.append(f"{name}: not expected (the model has no {ours})")
            elif ours in found:
                problems.append(f"{name}: stands there twice, with and without the prefix {self.prefix!r}")
            elif tuple(value.shape) != tuple(shapes[ours]):
                expected = reversed(shapes[ours]) if rule.transpose else shapes[ours]
                problems.append(f"{name}: {_size(tensor.shape)}, expected {_size(expected)}")
            found[ours] = value
        problems += [f"{self._their_name(ours)[0]}: missing" for ours in shapes if ours not in found]
        if problems:
            raise _refusal(where, problems)
        return found

    def to_theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published names and layouts for our tensors; a name without a rule raises a `UserError`."""
        named = {name: self._their_name(name) for name in ours}
        unknown = [f"{name}: no published name is known" for name, (_, rule) in named.items() if rule is None]
        if unknown:
            raise _refusal("the model", unknown)
        return {
            theirs: ours[name].T.contiguous() if rule is not None and rule.transpose else ours[name]
            for name, (theirs, rule) in named.items()
        }

    def _their_name(self, ours: str) -> tuple[str, Rule | None]:
        match = _first(((rule, rule.ours) for rule in self.rules if rule.ours is not None), ours)
        if match is None:
            return ours, None
        rule, number = match
        return self.prefix + rule.theirs.replace(NUMBER, number), rule

    def _bare(self, name: str) -> str:
        return name.removeprefix(self.prefix)


def _first(patterns: Iterable[tuple[Rule, str]], name: str) -> tuple[Rule, str] | None:
    """The first rule whose pattern is the name, and the number that stands in it."""
    for rule, pattern in patterns:
        shape = re.escape(pattern).replace(re.escape(NUMBER), r"(0|[1-9]\d{0,5})")
        match = re.fullmatch(shape, name, re.ASCII)
        if match:
            return rule, match.group(1) if match.groups() else ""
    return None


def _refusal(where: str, problems: list[str]) -> UserError:
    count = f"{len(problems)} difference{'s' if len(problems) > 1 else ''}"
    lines = [f"  {problem}" for problem in sorted(problems)]
    return UserError("\n".join([f"{where} does not fit the model: {count}", *lines]))


def _size(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
