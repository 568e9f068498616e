"""Queries of a video and their answers, as evaluation uses them."""

import dataclasses
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from unloc_jax.decimals import shortest
from unloc_jax.names import id_from_text
from unloc_jax.records import VideoRecord

# Attributes that identify a text instead of describing its content.
_BOOKKEEPING = frozenset(
    {"qid", "query", "vid", "annotators", "annotated_s", "domain", "pieces", "not_shown", "absent"}
)


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
    """One query of a video.

    Attributes:
      text: the query.
      windows_s: float64 [W, 2], its answers in seconds as annotated; hitting any of them counts. W = 0: unknown. An
        answer that the video does not show (see `not_shown`) is never hit.
      attributes: of its first text.
      is_absent: it is known to have no answer in its video.
    """

    text: str
    windows_s: np.ndarray
    attributes: Mapping[str, str]
    is_absent: bool = False

    @property
    def qid(self) -> str | int | None:
        """Returns the id in the dataset's file, a text or a number; None if there is none."""
        return id_from_text(self.attributes["qid"]) if "qid" in self.attributes else None

    @property
    def description(self) -> dict[str, str]:
        """Returns the attributes that describe the text, such as {"object": "red circle"}."""
        return {name: value for name, value in self.attributes.items() if name not in _BOOKKEEPING}


def queries_of(record: VideoRecord, *, by_text: bool = False) -> list[Query]:
    """Groups the texts of a record into queries, in the order of their first texts; then those that are not shown, then
    those that are absent.

    Texts with the same "qid" (without qids, the same "query") form one query with several answers. Every other text is
    a separate query, as the official evaluations count; with `by_text`, equal ones form one query.
    """
    known = len(record.segments_s) > 0
    segments_s = as_annotated(record).tolist() if known else [None] * len(record.texts)
    answers = [
        *zip(record.texts, segments_s, record.attributes),
        *((of.text, [of.start_s, of.end_s], of.attributes) for of in not_shown(record)),
    ]
    groups: dict[tuple[str, str | int], list[int]] = {}
    for row, (text, _, attributes) in enumerate(answers):
        name = next((name for name in ("qid", "query") if name in attributes), "")
        key = (name, attributes[name]) if name else ("text", text) if by_text else ("row", row)
        groups.setdefault(key, []).append(row)
    queries = []
    for rows in groups.values():
        text, _, attributes = answers[rows[0]]
        windows_s = [answers[row][1] for row in rows if answers[row][1] is not None]
        queries.append(Query(text, np.array(windows_s, np.float64).reshape(-1, 2), attributes))
    return queries + [Query(text, np.zeros((0, 2)), attributes, True) for text, attributes in absent(record)]


def as_annotated(record: VideoRecord) -> np.ndarray:
    """Returns the segments in seconds as in the annotation file, even beyond the video's end: float64 [S, 2]."""
    segments_s = shortest(record.segments_s).reshape(-1, 2)
    for row, attributes in enumerate(record.attributes[: len(segments_s)]):
        if "annotated_s" in attributes:
            segments_s[row] = json.loads(attributes["annotated_s"])
    return segments_s


class NotShown(NamedTuple):
    """An annotated segment that nothing of the video shows: empty, reversed or past its end. It is always missed."""

    text: str
    start_s: float
    end_s: float
    attributes: Mapping[str, str]


def not_shown(record: VideoRecord) -> list[NotShown]:
    """Returns the annotated segments that the video does not show."""
    told = [json.loads(of_text["not_shown"]) for of_text in record.attributes if "not_shown" in of_text]
    return [
        NotShown(text, start_s, end_s, dict(*attributes))
        for rows in told
        for start_s, end_s, text, *attributes in rows
    ]


def absent(record: VideoRecord) -> list[tuple[str, dict[str, str]]]:
    """Returns the queries that have no answer in the video, and their attributes."""
    told = [json.loads(of_text["absent"]) for of_text in record.attributes if "absent" in of_text]
    return [(text, attributes) for rows in told for text, attributes in rows]


def not_shown_classes(record: VideoRecord) -> list[tuple[str, float, float]]:
    """Returns (class, start, end), in seconds, of `not_shown`; reversed segments become empty, missed alike."""
    return [(of.text, of.start_s, max(of.start_s, of.end_s)) for of in not_shown(record)]


def file_id(record: VideoRecord) -> str | int:
    """Returns the id of a video as in the dataset's file, with an extension or as a number."""
    first = record.attributes[0] if record.attributes else {}
    return id_from_text(first["vid"]) if "vid" in first else record.video_id


def pieces_of_query(query: Query) -> np.ndarray | None:
    """Returns start, end (s) and labels of the labelled pieces, float64 [n, 2 + A]; None if they are 2-second clips."""
    return np.array(json.loads(query.attributes["pieces"])) if "pieces" in query.attributes else None
