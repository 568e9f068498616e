"""Problems: findings about annotations or videos, counted by kind so that nothing is dropped silently."""

import collections
import dataclasses
import reprlib
from typing import Any

_EXAMPLES_PER_KIND = 3


@dataclasses.dataclass(frozen=True)
class Problem:
    """One finding: its place (file, video id, row) and the content found there."""

    kind: str
    where: str
    detail: str


class Problems:
    """Counts findings by kind and keeps the first few of each kind as examples."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.examples: dict[str, list[Problem]] = {}

    def add(self, kind: str, where: str, detail: str = "") -> None:
        self.counts[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES_PER_KIND:
            examples.append(Problem(kind, where, detail))

    def table(self) -> str:
        """Returns one line per kind, most frequent first, each followed by its examples; "" if there are none."""
        lines = []
        for kind, count in self.counts.most_common():
            lines.append(f"{count:8d}  {kind}")
            for example in self.examples[kind]:
                detail = f": {example.detail}" if example.detail else ""
                lines.append(f"          - {example.where}{detail}")
        return "\n".join(lines)


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = 100


def shown(value: Any) -> str:
    """Formats a value of a file for a message: as Python's repr, but shortened."""
    return _SHORT.repr(value)
