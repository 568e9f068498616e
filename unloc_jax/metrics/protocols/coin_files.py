"""Segments as labels of frames, at the times that the predictions give: COIN's own file, and `Annotated` classes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unloc_jax import siblings
from unloc_jax.errors import UserError
from unloc_jax.metrics.protocols.annotated import Annotated, path_of
from unloc_jax.metrics.protocols.frame_files import FrameLabels
from unloc_jax.metrics.segmentation import labels_at
from unloc_jax.names import normal_id, normal_text
from unloc_jax.queries import as_annotated

BACKGROUND = "background"


def read_steps(ground_truth: Path | Annotated, found: dict[str, FrameLabels]) -> dict[str, FrameLabels]:
    """Returns the steps that the annotated videos show at the times of the predicted frames.

    Steps have the names that `unloc data build` gives them. For a frame with several steps the predicted one counts, if
    it is among them.

    Raises:
      UserError: a file does not have COIN's format, or a predicted video has no "times_s".
    """
    labels = {}
    for video_id, texts, segments_s in _videos(ground_truth):
        video = normal_id(video_id)
        prediction = found.get(video)
        if prediction is None:
            labels[video] = FrameLabels([BACKGROUND], None)
            continue
        if prediction.times_s is None or prediction.labels is None:
            raise UserError(
                f'the prediction of {video!r} needs "times_s", the time of each of its labels: '
                f"{path_of(ground_truth)} tells segments, not frames"
            )
        steps = list(dict.fromkeys(texts))
        which = np.array([steps.index(text) for text in texts], int)
        shown = labels_at(prediction.times_s, segments_s, which, len(steps))
        given = [normal_text(str(label)) for label in prediction.labels]
        own = [[steps[i] for i in np.flatnonzero(row)] or [BACKGROUND] for row in shown]
        labels[video] = FrameLabels(
            [label if label in of_frame else of_frame[0] for label, of_frame in zip(given, own)], None
        )
    return labels


def _videos(ground_truth: Path | Annotated) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Yields id, labels [S] and segments, float [S, 2] in seconds, of the videos."""
    if isinstance(ground_truth, Annotated):
        for _, video_id, video in ground_truth.members():
            rows = [row for row in video["annotations"] if row["segment"][0] < row["segment"][1]]
            yield (
                video_id,
                [row["label"] for row in rows],
                np.reshape([row["segment"] for row in rows], (-1, 2)),
            )
        return
    with siblings.ours("data_pipelines"):
        from data_pipelines.annotations import parse  # reads JSON, no TensorFlow

        records = parse("coin", [ground_truth]).records
    for record in records:
        yield record.video_id, record.texts, as_annotated(record)
