"""Charades' own files: the annotations' table, and the submission with scores of frames.

Charades_v1_test.csv has the columns id, actions ("c092 11.90 21.20;c147 0.00 12.60", seconds) and length (seconds),
among others. A submission has lines "video frame score score …", frames from 1 on, a score per class.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import warn, warn_of
from unloc_jax.metrics.per_frame import PLACES
from unloc_jax.metrics.protocols.action_files import Annotations
from unloc_jax.metrics.protocols.json_files import read_text, shown, text_lines
from unloc_jax.names import normal_id

_COLUMNS = ("id", "actions", "length")


def charades_members(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields the videos like `action_files.database_members`, in the subset "testing".

    Raises:
      UserError: the file lacks a column, or a row is wrong.
    """
    rows = csv.DictReader(read_text(path).splitlines())
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise UserError(
            f"{path}: there is no column {missing[0]!r}; Charades' table has {', '.join(_COLUMNS)}"
        )
    for row in rows:
        where = f"{path}: line {rows.line_num}"
        try:
            actions = [action.split() for action in (row["actions"] or "").split(";") if action.strip()]
            segments = [
                {"segment": [float(start), float(end)], "label": label} for label, start, end in actions
            ]
            yield (
                "database",
                row["id"],
                {"subset": "testing", "duration": float(row["length"]), "annotations": segments},
            )
        except (TypeError, ValueError):
            raise UserError(
                f'{where}: actions look like "c092 11.90 21.20;c147 0.00 12.60" and length is seconds, not'
                f" {shown(row['actions'])} and {shown(row['length'])}"
            ) from None


def frame_scores(path: Path, of: Annotations) -> np.ndarray:
    """Returns the scores of a submission, float64 [V, 25, C], for the classes of the ground truth; -inf where missing.

    Frames that count from 0 are taken as from 1, as by the official evaluator.

    Raises:
      UserError: a line has another form, or no column belongs to a class of the ground truth.
    """
    columns = {label: _column(label, of) for label in of.classes}
    needed = max(columns.values()) + 1
    order = [columns[label] for label in of.classes]
    unknown, seen, first = [], 0, 1
    given = np.full((of.num_videos, PLACES + 1), False)
    rows = np.full((of.num_videos, PLACES + 1, len(of.classes)), -np.inf)
    for number, line in text_lines(path):
        seen += 1
        video, _, rest = line.partition(" ")
        try:
            frame, *values = np.array(rest.split(), np.float64).tolist()
            if (
                not 0 <= frame <= PLACES
                or frame != int(frame)
                or len(values) < needed
                or np.isnan(values).any()
            ):
                raise ValueError
        except ValueError:
            raise UserError(
                f'{path}: line {number}: "video frame score score …" is needed, frames 1 to {PLACES} and at least'
                f" {needed} scores, not {shown(line)}"
            ) from None
        index = of.videos.get(normal_id(video), of.num_videos)
        if index >= of.num_videos:
            unknown.append(video)
            continue
        first = min(first, int(frame))
        given[index, int(frame)] = True
        rows[index, int(frame)] = np.array(values)[order]
    if len(unknown) == seen:
        raise UserError(f"{path}: none of its {seen} lines is of a video of {of.path}")
    warn_of(unknown, seen, "lines are of videos without ground truth: left out")
    without = PLACES * of.num_videos - int(given[:, first : first + PLACES].sum())
    if without:
        warn(f"{without} of {PLACES * of.num_videos} frames have no prediction: they score lowest")
    return rows[:, first : first + PLACES]


def _column(label: str, of: Annotations) -> int:
    if label[:1] == "c" and label[1:].isdecimal() and len(label) < 8:
        return int(label[1:])
    raise UserError(
        f"{of.path}: a submission of Charades has scores of the classes c000, c001, …; this ground truth has {label!r}"
    )
