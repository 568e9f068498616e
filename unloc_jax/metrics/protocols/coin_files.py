"""COIN's own file as labels of frames, at the times that the predictions give."""

from pathlib import Path

import numpy as np

from unloc_jax import siblings
from unloc_jax.errors import UserError
from unloc_jax.metrics.protocols.frame_files import FrameLabels
from unloc_jax.metrics.segmentation import labels_at
from unloc_jax.names import normal_id, normal_text
from unloc_jax.queries import as_annotated

BACKGROUND = "background"


def read_steps(path: Path, found: dict[str, FrameLabels]) -> dict[str, FrameLabels]:
    """Returns the steps that the annotated videos show at the times of the predicted frames.

    Steps have the names that `unloc data build` gives them. For a frame with several steps the predicted one counts, if
    it is among them.

    Raises:
      UserError: the file does not have COIN's format, or a predicted video has no "times_s".
    """
    with siblings.ours("data_pipelines"):
        from data_pipelines.annotations import parse  # reads JSON, no TensorFlow

        records = parse("coin", [path]).records
    labels = {}
    for record in records:
        video = normal_id(record.video_id)
        prediction = found.get(video)
        if prediction is None:
            labels[video] = FrameLabels([BACKGROUND], None)
            continue
        if prediction.times_s is None or prediction.labels is None:
            raise UserError(
                f'the prediction of {video!r} needs "times_s", the time of each of its labels: {path} tells segments,'
                " not frames"
            )
        steps = list(dict.fromkeys(record.texts))
        which = np.array([steps.index(text) for text in record.texts], int)
        shown = labels_at(prediction.times_s, as_annotated(record), which, len(steps))
        given = [normal_text(str(label)) for label in prediction.labels]
        own = [[steps[i] for i in np.flatnonzero(row)] or [BACKGROUND] for row in shown]
        labels[video] = FrameLabels(
            [label if label in of_frame else of_frame[0] for label, of_frame in zip(given, own)], None
        )
    return labels
