"""Charts of a run: what they draw is what they were shown."""

import numpy as np
import pytest

from unloc_jax.records import VideoRecord
from unloc_jax.tasks import SplitPredictions

pytest.importorskip("matplotlib", reason="needs Matplotlib")
from unloc_jax.notebooks import LiveCharts


def validation() -> tuple[list[VideoRecord], SplitPredictions]:
    """Two videos; "jump" happens twice in the first."""
    times_s = np.array([[1.0, 2.0], [5.0, 8.0], [3.0, 4.0]], np.float32)
    records = [
        VideoRecord("a", 10.0, "validation", times_s, ["jump", "jump", "run"], []),
        VideoRecord("b", 20.0, "validation", times_s[:1], ["run"], []),
        VideoRecord("c", 5.0, "validation", times_s[:0], ["run"], []),  # its moments are secret
    ]
    segments_s = np.array([[[1, 2], [6, 8], [0, 9]], [[2, 4], [0, 0], [0, 0]]], np.float32)
    scores = np.array([[0.9, 0.8, 0.1], [0.5, 0.0, 0.0]], np.float32)
    return records, SplitPredictions([["jump", "run"]] * 3, segments_s=[segments_s] * 3, scores=[scores] * 3)


def test_what_is_drawn(tmp_path):
    charts = LiveCharts(examples=3)
    charts.logged(1, {"train/loss": 2.0, "validation/R1@0.5": 10.0})
    charts.logged(2, {"train/loss": 1.0, "validation/R1@0.5": 30.0, "validation/mIoU": 20.0})
    charts.validated(2, "moment_retrieval", *validation())
    losses, scores, examples = charts.figure().axes
    assert losses.lines[0].get_xydata().tolist() == [[1, 2], [2, 1]]
    (line,) = scores.lines
    assert line.get_label() == "R1@0.5" and line.get_xydata().tolist() == [[1, 10], [2, 30]]
    # A text of each video first; as many segments as the text has.
    assert [label.get_text() for label in examples.get_yticklabels()] == ["jump", "run", "run"]
    extents = [
        [path.get_extents().intervalx.tolist() for path in c.get_paths()] for c in examples.collections
    ]
    assert extents[:3] == [[[0, 10]], [[1, 2], [5, 8]], [[1, 2], [6, 8]]]
    assert extents[3:6] == [[[0, 20]], [[1, 2]], [[2, 4]]]
    charts.save(tmp_path / "charts.png")
    assert (tmp_path / "charts.png").stat().st_size > 10_000


def test_without_predictions_or_numbers():
    """Tasks without segments have no predictions to draw; before the first step there is nothing."""
    charts = LiveCharts()
    assert len(charts.figure().axes) == 2
    records, _ = validation()
    charts.validated(1, "action_segmentation", records, SplitPredictions([["jump"]] * 3))
    assert len(charts.figure().axes) == 2
