"""Reconciles a video's annotations with the length that was measured while decoding it."""

import dataclasses
import json

import numpy as np

from data_pipelines.annotations.problems import Problem
from data_pipelines.annotations.segments import PAST_END_TOLERANCE_S, with_absent, with_not_shown
from unloc_jax.decimals import shortest
from unloc_jax.queries import absent, as_annotated
from unloc_jax.records import VideoRecord

# Durations in annotation files are often rounded, or belong to another encoding of the same video.
_DISAGREES_FRACTION = 0.05
_DISAGREES_S = 1.0


def lengths_differ(length_s: float, measured_s: float) -> bool:
    """Returns whether two lengths of a video differ by more than rounding and re-encoding explain."""
    return abs(length_s - measured_s) > max(_DISAGREES_S, _DISAGREES_FRACTION * measured_s)


def fit_to_video(record: VideoRecord, measured_s: float, problems: list[Problem]) -> VideoRecord | None:
    """Fits a record's duration and segments to the video file.

    The annotated duration stays, because the official metrics are computed with it, unless the video is much shorter
    (by more than 5 % and more than 1 s, which is reported). Then the video is another cut: the duration becomes the
    measured one and segments are clipped to it. An unknown duration (0.0) becomes the measured one. Segments that start
    after the end of the video show nothing; they are reported and left out.

    Args:
      record: as parsed.
      measured_s: length of the video in seconds, from its frames or its features.
      problems: receives the findings.

    Returns:
      The record, or None if it is of the training split, has segments, and none is inside the video. In the other
      splits such a record stays, without segments and texts: official evaluators count its segments as missed.
    """
    where = f"{record.split}: {record.video_id}"
    duration_s = record.duration_s or measured_s
    if lengths_differ(duration_s, measured_s):
        detail = f"annotated {duration_s:.2f} s, measured {measured_s:.2f} s"
        problems.append(Problem("duration differs from the video", where, detail))
        duration_s = min(duration_s, measured_s)
    if not len(record.segments_s):  # its queries have no segments, or these are secret
        return dataclasses.replace(record, duration_s=duration_s)
    inside = record.segments_s[:, 0] < min(duration_s, measured_s)
    for start_s, end_s in record.segments_s[~inside]:
        detail = f"segment [{start_s:g}, {end_s:g}], measured {measured_s:.2f} s"
        problems.append(Problem("segment after the video's end", where, detail))
    for start_s, end_s in record.segments_s[
        inside & (record.segments_s[:, 1] > duration_s + PAST_END_TOLERANCE_S)
    ]:
        detail = f"segment [{start_s:g}, {end_s:g}], measured {measured_s:.2f} s"
        problems.append(Problem("segment clipped to the video", where, detail))
    if not inside.any() and record.split == "train" and not absent(record):
        return None
    kept = np.flatnonzero(inside)
    segments_s = np.minimum(record.segments_s[kept], np.float32(duration_s))
    attributes = [record.attributes[i] for i in kept] or [_of_video(record.attributes[0])]
    for row in np.flatnonzero((segments_s != record.segments_s[kept]).any(axis=1)):
        # The official metrics compare with these times.
        told_s = shortest(record.segments_s[kept[row]]).tolist()
        attributes[row] = {"annotated_s": json.dumps(told_s), **attributes[row]}
    annotated_s = as_annotated(record).tolist()
    after = [
        (*annotated_s[i], record.texts[i], _of_text(record.attributes[i])) for i in np.flatnonzero(~inside)
    ]
    attributes = with_not_shown(attributes, after)
    if not inside[0] and "not_shown" in record.attributes[0]:
        attributes = with_not_shown(attributes, json.loads(record.attributes[0]["not_shown"]))
    if not inside[0]:
        attributes = with_absent(attributes, absent(record))
    return dataclasses.replace(
        record,
        duration_s=duration_s,
        segments_s=segments_s,
        texts=[record.texts[i] for i in kept],
        attributes=attributes,
    )


def _of_video(attributes: dict[str, str]) -> dict[str, str]:
    """Returns those attributes of a video's first text that describe the video."""
    return {name: value for name, value in attributes.items() if name == "vid"}


def _of_text(attributes: dict[str, str]) -> dict[str, str]:
    """Returns those attributes of a text that describe the text alone."""
    others = ("vid", "annotated_s", "not_shown", "absent")
    return {name: value for name, value in attributes.items() if name not in others}
