"""Parser of DiDeMo: [{"video": "<id>.mov", "description": "…", "num_segments": 6, "times": [[0, 0], [0, 1], …],
"annotation_id": 49152}].

Times are the first and the last of 5-second chunks, both included, one pair per annotator. Only the first 30 seconds of
a video are annotated (num_segments chunks), so that is its duration. The files (train_data.json, …) do not contain
their split; it is taken from the file name.

A description becomes one segment for each distinct answer of its annotators, with the attributes "qid" (the
annotation_id) and "annotators" (the number of annotators with this answer): the official score compares a prediction
with all answers.
"""

import collections
from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.segments import as_number, query_attributes
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

CHUNK_S = 5.0

_LAYOUT = (
    'DiDeMo looks like [{"video": "<id>.mov", "description": "…", "num_segments": 6, "times": [[1, 1], [1, 2], '
    '[1, 1], [0, 1]], "annotation_id": 49152}, …]'
)


def parse_didemo(files: list[Path]) -> ParsedAnnotations:
    """Reads DiDeMo files; the texts are per-video queries.

    Raises:
      UserError: a file is missing, is not JSON, has another layout, or its name does not identify one split.
    """
    collector = VideoCollector()
    for path in files:
        split = collector.split_of(path)
        for video_id, descriptions in _read(path, collector).items():
            num_segments = sum(len(description["times"]) for _, description in descriptions)
            if collector.is_new(path, video_id, split, num_segments):
                _add_video(collector, path, video_id, split, descriptions)
    return collector.parsed


def _read(path: Path, collector: VideoCollector) -> dict[str | int, list[tuple[str, dict[str, Any]]]]:
    """Returns (where, entry) of each description, by the video's name in the file."""
    content = read_json(path, collector.problems, _LAYOUT)
    if not isinstance(content, list) or not content:
        raise UserError(f"{path}: {_LAYOUT}; this file does not.")
    videos: dict[str | int, list[tuple[str, dict[str, Any]]]] = {}
    for number, entry in enumerate(content, 1):
        name: Any = entry.get("video") if isinstance(entry, dict) else None
        if not as_text(name) or not isinstance(entry.get("times"), list):
            raise UserError(f"{path}: {_LAYOUT}; the entry {number} does not.")
        videos.setdefault(name, []).append((f"{path.name}: entry {number}", entry))
    return videos


def _add_video(
    collector: VideoCollector,
    path: Path,
    video_id: str | int,
    split: str,
    descriptions: list[tuple[str, dict[str, Any]]],
) -> None:
    num_chunks = as_number(descriptions[0][1].get("num_segments"))
    duration_s = None if num_chunks is None else num_chunks * CHUNK_S
    maker = collector.maker(path, video_id, split, duration_s, text_name="description")
    for number, (where, entry) in enumerate(descriptions):
        answers: collections.Counter[tuple[float, float]] = collections.Counter()
        for chunks in entry["times"]:
            first, last = (
                map(as_number, chunks) if isinstance(chunks, list) and len(chunks) == 2 else (None, None)
            )
            if first is None or last is None or first > last:
                kind = "not a segment" if first is None or last is None else "start >= end"
                collector.problems.add(kind, where, f"chunks {shown(chunks)}")
                if first is not None and last is not None:
                    reversed_s = first * CHUNK_S, (last + 1) * CHUNK_S
                    told = query_attributes(entry.get("annotation_id"), number)
                    maker.add_not_shown(*reversed_s, entry.get("description"), told)
                continue
            answers[first * CHUNK_S, (last + 1) * CHUNK_S] += 1
        collector.parsed.num_merged += answers.total() - len(answers)
        for segment, count in answers.items():
            attributes = {**query_attributes(entry.get("annotation_id"), number), "annotators": str(count)}
            maker.add(segment, entry.get("description"), attributes, where)
    collector.keep(maker.finish())
