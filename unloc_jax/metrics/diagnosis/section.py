"""The parts of a diagnosis, independent of their rendering: sections of tables, plots and readings."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unloc_jax.errors import UserError
from unloc_jax.inline import framed
from unloc_jax.whole_writes import write_result

_INLINE_PX = 900

Value = str | int | float | None


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of values; floats are percent or points and shown with one decimal, None as a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]  # of Value


@dataclasses.dataclass(frozen=True)
class Bars:
    """One bar per label; `counts` are the sample sizes, `base` is drawn as a line across."""

    title: str
    labels: Sequence[str]
    values: Sequence[float]
    counts: Sequence[int]
    base: float | None = None


@dataclasses.dataclass(frozen=True)
class StackedBars:
    """One bar of 100 % per label; `shares[label][part]` in percent."""

    title: str
    labels: Sequence[str]
    parts: Sequence[str]
    shares: Sequence[Sequence[float]]


@dataclasses.dataclass(frozen=True)
class Lines:
    """Curves (x, y) in [0, 1] × [0, 100], or [0, 100]²; NaN leaves a gap."""

    title: str
    x_label: str
    y_label: str
    curves: dict[str, tuple[Sequence[float], Sequence[float]]]
    x_range: tuple[float, float]
    y_range: tuple[float, float] = (0, 100)
    diagonal: bool = False


@dataclasses.dataclass(frozen=True)
class Bar:
    """A segment on a timeline.

    kind: "truth", "missed" (truth that no shown prediction hits), "later" (a window after the first), an error type or
    an outcome.
    """

    start_s: float
    end_s: float
    kind: str
    note: str


@dataclasses.dataclass(frozen=True)
class Lane:
    """A class or query of a video: its ground truth above the predictions."""

    name: str
    truth: Sequence[Bar]
    found: Sequence[Bar]


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The timeline of one video."""

    name: str
    summary: str
    duration_s: float
    lanes: Sequence[Lane]


@dataclasses.dataclass(frozen=True)
class Timelines:
    """Timelines of videos under a heading."""

    title: str
    videos: Sequence[Timeline]


Figure = Bars | StackedBars | Lines | Timelines


def has_content(shown: Table | Figure) -> bool:
    """Returns whether there is anything to see: little data leaves tables without rows and curves without points."""
    match shown:
        case Table():
            return bool(shown.rows)
        case Timelines():
            return bool(shown.videos)
        case Lines():
            return any(y == y for _, values in shown.curves.values() for y in values)
        case _:
            return bool(shown.labels)


@dataclasses.dataclass(frozen=True)
class Section:
    """One question and its answer.

    Attributes:
      name: key in the JSON file, anchor on the page.
      title: heading.
      note: definition of the numbers.
      tables, figures: the content.
      readings: sentences derived from the section's numbers; empty if these support none.
    """

    name: str
    title: str
    note: str
    tables: Sequence[Table]
    figures: Sequence[Figure] = ()
    readings: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """A whole diagnosis: heading, summary at the top, sections; definitions of its terms.

    `print` shows it as text, and a notebook as a page.
    """

    title: str
    summary: Mapping[str, Value]
    sections: Sequence[Section]
    terms: str = ""

    def __repr__(self) -> str:
        return f"Diagnosis({self.title!r}, {len(self.sections)} sections)"

    def __str__(self) -> str:
        from unloc_jax.metrics.diagnosis.text import to_text

        return to_text(self)

    def _repr_html_(self) -> str:
        from unloc_jax.metrics.diagnosis.page import to_page

        return framed(to_page(self), _INLINE_PX)

    def save(self, path: str | Path) -> None:
        """Writes the page (`.html`) or the numbers (`.json`).

        Raises:
          UserError: another ending, or a folder that cannot be written.
        """
        from unloc_jax.metrics.diagnosis.page import to_page
        from unloc_jax.metrics.diagnosis.values import to_json

        path = Path(path)
        if path.suffix == ".html":
            text = to_page(self)
        elif path.suffix == ".json":
            text = json.dumps(to_json(self), indent=1, allow_nan=False) + "\n"
        else:
            raise UserError(f"{path}: write a page.html or a numbers.json.")
        write_result(path, text)
