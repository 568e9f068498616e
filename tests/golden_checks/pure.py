"""Goldens of single functions of the reference: every file pure_KIND*, all its cases."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.golden_checks import labels, metrics, nms, postprocess, rows, schedules
from tests.golden_checks.case import Case, Checked, cases_of
from tests.golden_checks.result import Result

TOLERANCE = 1e-5  # of numbers around 1, and relative for larger ones

_CHECKS: dict[str, Callable[[Case], Checked]] = {
    "labels": labels.check,
    "postprocess": postprocess.check,
    "nms": nms.check,
    "metrics": metrics.check,
    "anet_ap": metrics.check_average_precision,
    "lr": schedules.check,
    "dedup": rows.check,
}


def check(name: str, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Result:
    """Compares all cases of one file; `logits` of the result is the largest difference of any of them.

    Args:
      name: of the file, pure_KIND or pure_KIND_ANYTHING.
      arrays: CASE/in/FIELD and CASE/out/FIELD.
      meta: arguments by case.

    Raises:
      ValueError: a kind that is not known, or no case.
    """
    kind = name.removeprefix("pure_")
    checks = [run for known, run in _CHECKS.items() if kind == known or kind.startswith(f"{known}_")]
    if not checks:
        raise ValueError(f"no check of ours is for {name}; known are pure_{', pure_'.join(_CHECKS)}")
    worst, count = 0.0, 0
    failed: list[str] = []
    notes: dict[str, int] = {}
    for case in cases_of(arrays, meta):
        count += 1
        try:
            found = checks[0](case)
            if case.outputs.unseen:
                raise ValueError(f"the check does not know the output {min(case.outputs.unseen)}")
        except Exception as error:
            failed.append(f"{case.name}: {type(error).__name__}: {error}")
            continue
        worst = max(worst, found.difference)
        if found.difference > TOLERANCE:
            failed.append(f"{case.name}: difference {found.difference:.1e}")
        for note in found.notes:
            notes[note] = notes.get(note, 0) + 1
    if not count:
        raise ValueError("there is no case in it")
    said = [f"{count - len(failed)} of {count} cases", *failed[:3]]
    said += [f"{note} ({times}×)" for note, times in notes.items()]
    return Result(name, worst, None, None, not failed, "; ".join(said))
