"""Rows of evaluation that come twice."""

import numpy as np

from tests.golden_checks.case import Case, Checked, difference


def check(case: Case) -> Checked:
    """The rows that are a video's first; of them the frames that are real."""
    case.refuse_other_arguments(())
    given = case.inputs
    real = np.flatnonzero(given["batch_mask"] > 0)
    _, first = np.unique(given["vids"][real], return_index=True)
    rows = real[np.sort(first)]
    select = lambda x: x[rows]
    if "frame_mask" in given:
        select = lambda x: x[rows][given["frame_mask"][rows] > 0]
    worst = [
        difference(select(given["logits"]), case.outputs["logits"]),
        difference(select(given["labels"]), case.outputs["labels"]),
        difference(given["vids"][rows], case.outputs["vids"]),
    ]
    note = (
        "nothing of the product is compared: its evaluation reads every video once and marks rows that fill up "
        "(example_mask), so it has none to remove; the check removes them"
    )
    return Checked(max(worst), (note,))
