"""Arguments of a function call in pieces: `partialArgs` with a JSON path and a value or a piece of a string."""

import re
from itertools import pairwise
from typing import Any

from llm_interactive import wire_json
from llm_interactive.protocols.base import Json

MAX_INDEX = 10_000
"""Longest list that a path may ask for."""

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,5})\]|\[['\"]([^'\"]*)['\"]\]")
_VALUES = ("stringValue", "numberValue", "boolValue")


class PartialArguments:
    """`add` what a chunk says, `json` at the end."""

    __slots__ = ("_growing", "_root")

    def __init__(self) -> None:
        self._root: dict[str, Any] = {}
        self._growing: str | None = None

    def add(self, args: Json, pieces: Json) -> None:
        if isinstance(args, dict):
            self._root |= args
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict) and isinstance(piece.get("jsonPath"), str):
                self._place(piece["jsonPath"], piece)

    def json(self) -> str:
        return wire_json.text(self._root)

    def _place(self, path: str, piece: dict[str, Json]) -> None:
        steps: list[str | int] = [
            int(index) if index else name or quoted for name, index, quoted in _STEP.findall(path.removeprefix("$"))
        ]
        if not 0 < len(steps) < wire_json.MAX_DEPTH or any(isinstance(s, int) and s > MAX_INDEX for s in steps):
            return
        value = next((piece[key] for key in _VALUES if key in piece), None)
        holder: Any = self._root
        for step, following in pairwise(steps):
            inner = _at(holder, step)
            if not isinstance(inner, (dict, list)):
                inner = [] if isinstance(following, int) else {}
                _set(holder, step, inner)
            holder = inner
        before = _at(holder, steps[-1])
        if self._growing == path and isinstance(before, str) and isinstance(value, str):
            value = before + value
        _set(holder, steps[-1], value)
        self._growing = path if piece.get("willContinue") is True else None


def _at(holder: Any, step: str | int) -> Any:
    if isinstance(holder, dict):
        return holder.get(str(step))
    return holder[step] if isinstance(step, int) and step < len(holder) else None


def _set(holder: Any, step: str | int, value: Any) -> None:
    if isinstance(holder, dict):
        holder[str(step)] = value
    elif isinstance(step, int):
        holder.extend([None] * (step + 1 - len(holder)))
        holder[step] = value
