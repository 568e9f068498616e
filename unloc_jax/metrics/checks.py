"""Checks of evaluated files: input that would make a metric silently wrong raises or warns, with its row or a count."""

import dataclasses
import warnings
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np

from unloc_jax.errors import UserError


class InputWarning(UserWarning):
    """Warns of input that has a defined result of which its author may be unaware."""


def refuse_rows(wrong: np.ndarray, values: np.ndarray, what: str) -> None:
    """Raises UserError with `what`, the count and the first wrong row, if any row is wrong.

    Args:
      wrong: bool, of the shape of `values` or of its leading dimensions.
      values: [rows, ...] of any dtype, in any unit.
      what: describes the fault.
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
    """Warns of `what` ("predicted videos …: …") with the number of `names` and the first of them, if there are any."""
    names = list(names)
    if names:
        warn(f"{len(names)} of {of_how_many} {what}; first: {names[0]}")


def warn_of_odd_segments(segments_s: np.ndarray, what: str, where_is: Callable[[int], str]) -> None:
    """Warns of predicted segments that overlap nothing, and of negative times.

    Args:
      segments_s: float [M, 2], start and end in seconds.
      what: names the segments.
      where_is: returns the place of a row in the file.
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
    """Warns that no prediction, float [M, 2] in seconds, hits the ground truth, float [G, 2]; shows the ranges of times
    to help to see why.
    """
    if len(found_s):
        warn(
            f"no prediction hits anything: half of them end before {np.median(found_s[:, 1]):.4g} s, half of the"
            f" ground truth before {np.median(truth_s[:, 1]):.4g} s; are its times seconds?"
        )


@dataclasses.dataclass
class Problems:
    """Faults in the rows of a file: their number, and the place of the first one."""

    path: Path
    rows: str  # what the rows are called, such as "predictions"
    count: int = 0
    seen: int = 0
    first: str = ""

    def add(self, where: str, what: str) -> None:
        self.first = self.first or f"{where}: {what}"
        self.count += 1

    def refuse(self) -> None:
        """Raises UserError if there are any."""
        if self.count:
            raise UserError(
                f"{self.path}: {self.count} of {self.seen} {self.rows} are wrong; the first is {self.first}"
            )


def videos_of_both(
    truth: Collection[str], found: Collection[str], ground_truth: Path, predictions: Path, without: str
) -> list[str]:
    """Returns the annotated videos that have predictions; warns of all others.

    Args:
      truth, found: ids of the annotated and of the predicted videos.
      ground_truth, predictions: their files, for messages.
      without: what becomes of videos without prediction, for the warning.

    Raises:
      UserError: no predicted video is in the ground truth.
    """
    both = [video for video in truth if video in found]
    if not both:
        raise UserError(
            f"{predictions}: none of its {len(found)} videos is in {ground_truth}: for example"
            f" {next(iter(found))!r} is not, but {next(iter(truth))!r} is"
        )
    warn_of(
        [v for v in found if v not in truth], len(found), "predicted videos have no ground truth: left out"
    )
    warn_of([v for v in truth if v not in found], len(truth), f"videos have no prediction: {without}")
    return both
