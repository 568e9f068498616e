"""The checks that every parser makes on a video's segments."""

import math
from typing import Any

import numpy as np

from data_pipelines.annotations.problems import Problems
from unloc_jax.records import VideoRecord

# Annotators and tools round; an end this close past the video's end is not worth a report.
PAST_END_TOLERANCE_S = 0.05


class RecordMaker:
    """Collects the usable segments of one video; every unusable one goes to `problems`."""

    def __init__(
        self, video_id: str, duration: Any, split: str, where: str, problems: Problems, *, text_name: str
    ):
        """Starts a record without segments.

        Args:
          video_id: the dataset's own id.
          duration: seconds as found in the file, None if absent. An unusable one is reported and becomes 0.0,
            which means unknown: a builder fills in the measured one.
          split: "train", "validation" or "test".
          where: file name and video id, for reports.
          problems: where findings go.
          text_name: what the dataset calls a text, for reports: "sentence", "label".
        """
        self._where = where
        self._text_name = text_name
        self._problems = problems
        duration_s = as_number(duration)
        if duration_s is None or duration_s <= 0:
            problems.add("missing duration", where, "no duration" if duration is None else f"{duration!r}")
            duration_s = 0.0
        self._record = VideoRecord(video_id, duration_s, split, np.zeros((0, 2), np.float32), [], [])
        self._segments: list[tuple[float, float]] = []
        self._seen: set[tuple[float, float, str]] = set()

    def add(self, segment: Any, text: Any, attributes: Any = None) -> None:
        """Checks one segment ([start, end] in seconds, as in the file) and its text; keeps it if usable."""
        problems, where = self._problems, self._where
        if not isinstance(segment, list) or len(segment) != 2:
            problems.add("not a segment", where, f"{segment!r} is not [start, end]")
            return
        start_s, end_s = (as_number(bound) for bound in segment)
        if start_s is None or end_s is None:
            problems.add("not a number", where, f"segment {segment!r}")
            return
        if start_s >= end_s:
            problems.add("start >= end", where, f"segment {segment!r}")
            return
        if not isinstance(text, str) or not text.strip():
            problems.add(f"empty {self._text_name}", where, f"segment {segment!r}, text {text!r}")
            return
        if start_s < 0:
            problems.add("segment before the start", where, f"segment {segment!r}")
            start_s = 0.0
        duration_s = self._record.duration_s
        if duration_s and end_s > duration_s:
            if end_s > duration_s + PAST_END_TOLERANCE_S:
                problems.add("segment past the end", where, f"segment {segment!r}, duration {duration_s:g} s")
            end_s = duration_s
        if start_s >= end_s:  # nothing is left inside the video
            return
        text = " ".join(text.split())
        key = (start_s, end_s, text)
        if key in self._seen:
            problems.add("duplicate segment", where, f"segment {segment!r}, {text!r}")
            return
        self._seen.add(key)
        self._segments.append((start_s, end_s))
        self._record.texts.append(text)
        self._record.attributes.append(self._checked_attributes(attributes))

    def _checked_attributes(self, attributes: Any) -> dict[str, str]:
        if attributes is None:
            return {}
        if isinstance(attributes, dict) and all(isinstance(value, str) for value in attributes.values()):
            return attributes
        self._problems.add("attributes are not text", self._where, f"{attributes!r}")
        return {}

    def finish(self) -> VideoRecord | None:
        """The record, or None (reported) if no segment is usable."""
        if not self._segments:
            self._problems.add("video without usable segments", self._where)
            return None
        self._record.segments_s = np.array(self._segments, np.float32)
        return self._record


def as_number(value: Any) -> float | None:
    """A finite float from a JSON number or a string that holds one; None otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
