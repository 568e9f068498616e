"""Input that would make a metric silently wrong is refused with the row it is in, or warned of with a count."""

import dataclasses
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from unloc_jax.errors import UserError


class InputWarning(UserWarning):
    """Something in the evaluated files that has a defined result, but that its author may not know of."""


def refuse_rows(wrong: np.ndarray, values: np.ndarray, what: str) -> None:
    """UserError with `what`, the count and the first row of `values [rows, ...]` that is wrong anywhere.

    wrong: bool, of the shape of `values` or of its leading dimensions.
    """
    rows = np.unique(np.nonzero(wrong)[0])
    if len(rows):
        row = rows[0]
        raise UserError(
            f"{what} in {len(rows)} of {len(values)} rows, first in row {row}: {values[row].tolist()}"
        )


def warn(message: str) -> None:
    warnings.warn(message, InputWarning, stacklevel=3)


def warn_of(names: Iterable[object], of_how_many: int, what: str) -> None:
    """Warns of `what` ("predicted videos …: …") with the number of `names` and the first of them; silent without."""
    names = list(names)
    if names:
        warn(f"{len(names)} of {of_how_many} {what}; first: {names[0]}")


def warn_of_odd_segments(segments_s: np.ndarray, what: str, where_is: Callable[[int], str]) -> None:
    """Warns of predicted segments [M, 2] that overlap nothing, and of negative times.

    where_is: says where a row is in the file.
    """
    for odd, why in (
        (segments_s[:, 0] == segments_s[:, 1], "have no length: they overlap nothing"),
        (segments_s[:, 0] > segments_s[:, 1], "are reversed, start after end"),
        (segments_s[:, 0] < 0, "start before 0 s: they count as they are"),
    ):
        rows = np.flatnonzero(odd)
        if len(rows):
            first = rows[0]
            warn(
                f"{len(rows)} of {len(segments_s)} {what} {why}; first: {where_is(first)}, {segments_s[first].tolist()}"
            )


def warn_of_no_hit(found_s: np.ndarray, truth_s: np.ndarray) -> None:
    """Warns that nothing was hit, with what helps to see why: the times [M, 2] of predictions and [G, 2] of truth."""
    if len(found_s):
        warn(
            f"no prediction hits anything: half of them end before {np.median(found_s[:, 1]):.4g} s, half of the"
            f" ground truth before {np.median(truth_s[:, 1]):.4g} s; are its times seconds?"
        )


@dataclasses.dataclass
class Problems:
    """What is wrong with the rows of a file: how many, and where the first one is."""

    path: Path
    rows: str  # what the rows are called, such as "predictions"
    count: int = 0
    seen: int = 0
    first: str = ""

    def add(self, where: str, what: str) -> None:
        self.first = self.first or f"{where}: {what}"
        self.count += 1

    def refuse(self) -> None:
        """UserError if there are any."""
        if self.count:
            raise UserError(
                f"{self.path}: {self.count} of {self.seen} {self.rows} are wrong; the first is {self.first}"
            )
