"""RecordMaker: the checks of a video's segments that all parsers share."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.annotations.problems import Problems, shown
from unloc_jax.names import as_text, id_of_record, id_to_text, normal_text
from unloc_jax.records import VideoRecord

# Annotators and tools round; an end this little past the video's end is not reported.
PAST_END_TOLERANCE_S = 0.05
# A week. Larger numbers are not seconds (but frames or milliseconds), or not lengths at all.
LONGEST_S = 7 * 24 * 3600.0

NotShown = tuple[float, float, str, dict[str, str]]  # start and end in seconds, text, its attributes


class RecordMaker:
    """Collects the usable segments of one video; reports every unusable one to `problems`."""

    def __init__(
        self,
        video_id: str | int,
        duration: Any,
        split: str,
        where: str,
        problems: Problems,
        *,
        text_name: str,
        duration_expected: bool = True,
        keep_duplicates: bool = False,
    ):
        """Starts a record without segments.

        Args:
          video_id: the dataset's own id; the record stores it as text, without a video extension.
          duration: seconds as in the file, None if absent. An unusable one is reported and becomes 0.0, which means
            unknown: a builder replaces it by the measured one.
          split: "train", "validation" or "test".
          where: file name and video id, for reports.
          problems: receives the findings.
          text_name: the dataset's word for a text, for reports: "sentence", "label".
          duration_expected: False if the format has no durations: then None is not reported.
          keep_duplicates: keep repeated segments with the same text (still reported), for datasets whose official
            evaluation counts each one.
        """
        self.where = where
        self._text_name = text_name
        self._problems = problems
        self._keep_duplicates = keep_duplicates
        duration_s = as_number(duration)
        if duration is None and not duration_expected:
            duration_s = 0.0
        elif duration_s is None or duration_s <= 0:
            problems.add("missing duration", where, "no duration" if duration is None else shown(duration))
            duration_s = 0.0
        elif duration_s > LONGEST_S:
            problems.add("implausible duration", where, f"{duration_s:g} s; seconds were expected")
            duration_s = 0.0
        name = id_of_record(video_id)
        self._record = VideoRecord(name, duration_s, split, np.zeros((0, 2), np.float32), [], [])
        self._always = {"vid": id_to_text(video_id)} if video_id != name else {}
        self._segments: list[tuple[float, float]] = []
        self._not_shown: list[NotShown] = []
        self._absent: list[tuple[str, dict[str, str]]] = []
        self._seen: set[tuple[float, float, str, str | None, str | None]] = set()
        self._queries: list[tuple[str, dict[str, str], str]] = []
        self._seen_queries: set[tuple[str, str | None, str | None]] = set()

    def add(self, segment: Any, text: Any, attributes: Any = None, where: str | None = None) -> None:
        """Adds a segment ([start, end] in seconds, as in the file) and its text, if they are usable.

        Args:
          segment: start and end.
          text: the query or the class name.
          attributes: see VideoRecord; segments of different queries never count as duplicates.
          where: file and row of this segment, if it has its own row.
        """
        problems, where = self._problems, where or self.where
        if not isinstance(segment, list | tuple) or len(segment) != 2:
            problems.add("not a segment", where, f"{shown(segment)} is not [start, end]")
            return
        start_s, end_s = (as_number(bound) for bound in segment)
        if start_s is None or end_s is None:
            problems.add("not a number", where, f"segment {shown(segment)}")
            return
        if max(abs(start_s), abs(end_s)) > LONGEST_S:
            problems.add("implausible time", where, f"segment {shown(segment)}; seconds were expected")
            return
        # As float32, because that is how they are stored.
        if np.float32(start_s) == np.float32(end_s):
            problems.add("zero length", where, f"segment {shown(segment)}")
            self.add_not_shown(start_s, end_s, text, attributes)
            return
        if start_s > end_s:
            problems.add("start >= end", where, f"segment {shown(segment)}")
            self.add_not_shown(start_s, end_s, text, attributes)
            return
        text = self._checked_text(text, segment, where)
        if text is None:
            return
        annotated = [start_s, end_s]
        if start_s < 0:
            problems.add("segment before the start", where, f"segment {shown(segment)}")
            start_s = 0.0
        duration_s = self._record.duration_s
        if duration_s and end_s > duration_s:
            if end_s > duration_s + PAST_END_TOLERANCE_S:
                problems.add(
                    "segment past the end", where, f"segment {shown(segment)}, duration {duration_s:g} s"
                )
            end_s = duration_s
        if np.float32(start_s) >= np.float32(end_s):  # no part is inside the video
            self.add_not_shown(annotated[0], annotated[1], text, attributes)
            return
        attributes = self._checked_attributes(attributes, where)
        if [start_s, end_s] != annotated:
            attributes = {**attributes, "annotated_s": json.dumps(annotated)}
        key = (start_s, end_s, text, attributes.get("qid"), attributes.get("query"))
        if key in self._seen:
            problems.add("duplicate segment", where, f"segment {shown(segment)}, {shown(text)}")
            if not self._keep_duplicates:
                return
        self._seen.add(key)
        self._segments.append((start_s, end_s))
        self._record.texts.append(text)
        self._record.attributes.append(attributes)

    def add_not_shown(self, start_s: float, end_s: float, text: Any, attributes: Any = None) -> None:
        """Adds a segment that no model can find, because nothing of it is in the video: evaluations count it as missed.

        The caller has reported it.
        """
        if name := normal_text(text):
            told = attributes if isinstance(attributes, dict) else {}
            self._not_shown.append((start_s, end_s, name, {key: as_text(of) for key, of in told.items()}))

    def add_query(self, text: Any, attributes: Any = None, where: str | None = None) -> None:
        """Adds a text that has no segment in the file; see `finish`."""
        where = where or self.where
        text = self._checked_text(text, None, where)
        if text is None:
            return
        attributes = self._checked_attributes(attributes, where)
        key = (text, attributes.get("qid"), attributes.get("query"))
        if key in self._seen_queries:
            self._problems.add("duplicate query", where, shown(text))
            return
        self._seen_queries.add(key)
        self._queries.append((text, attributes, where))

    def add_absent(self, text: Any, attributes: Any = None, where: str | None = None) -> None:
        """Adds a query that is known to have no answer in the video; a repeated one is reported and left out."""
        where = where or self.where
        text = self._checked_text(text, None, where)
        if text is None:
            return
        told = self._checked_attributes(attributes, where)
        row = text, {name: value for name, value in told.items() if name not in self._always}
        if row in self._absent:
            self._problems.add("duplicate query", where, shown(text))
            return
        self._absent.append(row)

    def add_saliency(self, text: Any, scores: np.ndarray) -> None:
        """Sets the highlight scores of a text, float32 [num_clips, num_annotators], unless it already has some."""
        if normalized := normal_text(text):
            self._record.saliency.setdefault(normalized, scores)

    def finish(self, *, queries_only: bool = False) -> VideoRecord | None:
        """Returns the record; None if nothing of it is usable, which is reported.

        A video of an evaluation split whose segments are all unfindable (see `add_not_shown`) is reported, too, but
        returned, without segments and texts: official evaluators count it. One that only has queries without an answer
        (see `add_absent`) is returned likewise, in every split.

        Args:
          queries_only: the file contains no segments at all, for example because those of a test split are secret:
            the record then has zero segments, and its texts are the queries. Otherwise a query without a segment is
            reported and left out.
        """
        record = self._record
        if queries_only and not self._segments and self._queries:
            record.texts = [text for text, _, _ in self._queries]
            record.attributes = [attributes for _, attributes, _ in self._queries]
            return record
        for text, _, where in self._queries:
            self._problems.add("query without segments", where, shown(text))
        self._leave_out_contradictions()
        if not self._segments:
            counted = bool(self._not_shown) and record.split != "train"
            if not self._absent:
                detail = f"its {len(self._not_shown)} segments count as missed" if counted else ""
                self._problems.add("video without usable segments", self.where, detail)
            if not counted and not self._absent:
                return None
            record.attributes = [dict(self._always)]
            record.saliency = {}
        record.segments_s = np.array(self._segments, np.float32).reshape(-1, 2)
        record.attributes = with_absent(with_not_shown(record.attributes, self._not_shown), self._absent)
        record.saliency = {text: scores for text, scores in record.saliency.items() if text in record.texts}
        return record

    def _leave_out_contradictions(self) -> None:
        """Leaves out, and reports, queries without an answer that have one elsewhere in the file."""
        asked = {(text, of.get("qid")) for text, of in zip(self._record.texts, self._record.attributes)}
        for text, attributes in [row for row in self._absent if (row[0], row[1].get("qid")) in asked]:
            self._problems.add("query with and without an answer", self.where, f"{shown(text)}; it has one")
            self._absent.remove((text, attributes))

    def finish_hidden(self) -> VideoRecord:
        """Returns the record of a video whose segments, and whose classes, a server keeps secret."""
        self._record.attributes = [dict(self._always)]
        return self._record

    @property
    def duration_s(self) -> float:
        """Returns the duration in seconds, 0.0 if unknown."""
        return self._record.duration_s

    def _checked_text(self, text: Any, segment: Any, where: str) -> str | None:
        normalized = normal_text(text)
        if not normalized:
            of = "no segment" if segment is None else f"segment {shown(segment)}"
            self._problems.add(f"empty {self._text_name}", where, f"{of}, text {shown(text)}")
        return normalized or None

    def _checked_attributes(self, attributes: Any, where: str) -> dict[str, str]:
        if attributes is None:
            return dict(self._always)
        if isinstance(attributes, dict):
            texts = {name: as_text(value) for name, value in attributes.items()}
            if all(texts[name] or value == "" for name, value in attributes.items()):
                return {**texts, **self._always}
        self._problems.add("attributes are not text", where, shown(attributes))
        return dict(self._always)


def with_not_shown(
    attributes: list[dict[str, str]], not_shown: Sequence[Sequence[Any]]
) -> list[dict[str, str]]:
    """Returns attributes in which the first list the segments that the video does not show.

    No model can detect these segments (`NotShown`; attributes may be missing), but official evaluations count them.
    """
    if not not_shown:
        return attributes
    rows = [row if row[3:] != ({},) else row[:3] for row in map(tuple, not_shown)]
    earlier = json.loads(attributes[0].get("not_shown", "[]"))
    told = {"not_shown": json.dumps([*earlier, *rows], ensure_ascii=False)}
    return [{**attributes[0], **told}, *attributes[1:]]


def with_absent(
    attributes: list[dict[str, str]], absent: Sequence[tuple[str, dict[str, str]]]
) -> list[dict[str, str]]:
    """Returns attributes in which the first list the queries that have no answer in the video (`queries.absent`)."""
    if not absent:
        return attributes
    return [{**attributes[0], "absent": json.dumps(absent, ensure_ascii=False)}, *attributes[1:]]


def query_attributes(qid: Any, number: int) -> dict[str, str]:
    """Returns the attribute that identifies a query: its id or, without one, its number in the video."""
    has_id = isinstance(qid, str | int) and not isinstance(qid, bool) and qid != ""
    return {"qid": id_to_text(qid)} if has_id else {"query": str(number)}


def as_number(value: Any) -> float | None:
    """Converts a JSON number, or a string that contains one, to a finite float; returns None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
