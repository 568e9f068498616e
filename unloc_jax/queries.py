"""Queries of a video and their answers, as evaluation uses them."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np

from unloc_jax.decimals import shortest
from unloc_jax.names import id_from_text
from unloc_jax.records import VideoRecord

# Attributes that identify a text instead of describing its content.
_BOOKKEEPING = frozenset(
    {"qid", "query", "vid", "annotators", "annotated_s", "domain", "pieces", "not_shown"}
)


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
    """One query of a video.

    Attributes:
      text: the query.
      windows_s: float64 [W, 2], its answers in seconds as annotated; hitting any of them counts. W = 0: unknown.
      rows: indices of its texts in the record.
      attributes: of its first text.
    """

    text: str
    windows_s: np.ndarray
    rows: tuple[int, ...]
    attributes: Mapping[str, str]

    @property
    def qid(self) -> str | int | None:
        """Returns the id in the dataset's file, a text or a number; None if there is none."""
        return id_from_text(self.attributes["qid"]) if "qid" in self.attributes else None

    @property
    def description(self) -> dict[str, str]:
        """Returns the attributes that describe the text, such as {"object": "red circle"}."""
        return {name: value for name, value in self.attributes.items() if name not in _BOOKKEEPING}


def queries_of(record: VideoRecord, *, by_text: bool = False) -> list[Query]:
    """Groups the texts of a record into queries, in the order of their first texts.

    Texts with the same "qid" (without qids, the same "query") form one query with several answers. Every other text is
    a separate query, as the official evaluations count; with `by_text`, equal ones form one query.
    """
    groups: dict[tuple[str, str | int], list[int]] = {}
    for row, (text, attributes) in enumerate(zip(record.texts, record.attributes, strict=True)):
        name = next((name for name in ("qid", "query") if name in attributes), "")
        key = (name, attributes[name]) if name else ("text", text) if by_text else ("row", row)
        groups.setdefault(key, []).append(row)
    annotated_s = as_annotated(record)
    windows_s = lambda rows: annotated_s[rows] if len(annotated_s) else annotated_s
    return [
        Query(record.texts[rows[0]], windows_s(rows), tuple(rows), record.attributes[rows[0]])
        for rows in groups.values()
    ]


def as_annotated(record: VideoRecord) -> np.ndarray:
    """Returns the segments in seconds as in the annotation file, even beyond the video's end: float64 [S, 2]."""
    segments_s = shortest(record.segments_s).reshape(-1, 2)
    for row, attributes in enumerate(record.attributes[: len(segments_s)]):
        if "annotated_s" in attributes:
            segments_s[row] = json.loads(attributes["annotated_s"])
    return segments_s


def not_shown(record: VideoRecord) -> list[tuple[str, float, float]]:
    """Returns (class, start, end), in seconds, of annotated segments that the video does not show: empty or past its
    end."""
    told = [json.loads(of_text["not_shown"]) for of_text in record.attributes if "not_shown" in of_text]
    return [(text, start_s, end_s) for rows in told for start_s, end_s, text in rows]


def file_id(record: VideoRecord) -> str | int:
    """Returns the id of a video as in the dataset's file, with an extension or as a number."""
    first = record.attributes[0] if record.attributes else {}
    return id_from_text(first["vid"]) if "vid" in first else record.video_id


def pieces_of_query(query: Query) -> np.ndarray | None:
    """Returns start, end (s) and labels of the labelled pieces, float64 [n, 2 + A]; None if they are 2-second clips."""
    return np.array(json.loads(query.attributes["pieces"])) if "pieces" in query.attributes else None
