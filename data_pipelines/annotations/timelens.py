"""Parser of TimeLens-Bench and TimeLens-100K.

TimeLens-Bench re-annotates the tests of Charades-STA, ActivityNet Captions and QVHighlights:
charades-timelens.json, activitynet-timelens.json and qvhighlights-timelens.json are {id: {"duration": s, "spans":
[[s, s], …], "queries": ["…", …]}}. They are tests whatever their names say. TimeLens-100K, for training, has lines
{"source", "video_path", "duration", "events": [{"query", "span": [[s, s], …]}]}.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector, by_video
from data_pipelines.annotations.json_file import entries, read_json, read_json_lines
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.segments import query_attributes
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

_LAYOUT = (
    'TimeLens looks like {"<id>": {"duration": 30.5, "spans": [[1.5, 4.0], …], "queries": ["…", …]}, …} '
    '(TimeLens-Bench), or lines {"video_path": "…", "duration": 30.5, "events": [{"query": "…", "span": [[1.5, 4.0]]}]}'
    " (TimeLens-100K)"
)
# (place, duration, [(query, its windows), …])
_Video = tuple[str, Any, list[tuple[Any, list[Any]]]]


def parse_timelens(files: list[Path]) -> ParsedAnnotations:
    """Reads TimeLens files; the texts are per-video queries.

    Raises:
      UserError: a file is missing, is not JSON, or has another layout.
    """
    collector = VideoCollector()
    for path in files:
        is_lines = path.suffix.lower() == ".jsonl"
        split = "train" if is_lines else "test"
        found = list((_lines if is_lines else _bench)(path, collector))
        for video_id, of_video in by_video(found).items():
            events = [(where, *event) for where, _, events in of_video for event in events]
            if not collector.is_new(path, video_id, split, sum(len(windows) for *_, windows in events)):
                continue
            # The official evaluation counts each duplicate.
            maker = collector.maker(
                path, video_id, split, of_video[0][1], text_name="query", keep_duplicates=True
            )
            for number, (where, query, windows) in enumerate(events):
                for window in windows:
                    maker.add(window, query, query_attributes(None, number), where)
            collector.keep(maker.finish())
    return collector.parsed


def _bench(path: Path, collector: VideoCollector) -> Iterator[tuple[str, _Video]]:
    for video_id, video in entries(path, read_json(path, collector.problems, _LAYOUT), _LAYOUT):
        spans, queries = (
            (video.get("spans"), video.get("queries")) if isinstance(video, dict) else (None, None)
        )
        if not isinstance(spans, list) or not isinstance(queries, list):
            raise UserError(f'{path}: {_LAYOUT}; the entry "{video_id}" does not.')
        where = f"{path.name}: {video_id}"
        if len(spans) != len(queries):
            detail = f"{len(spans)} spans, {len(queries)} queries; those without a partner are skipped"
            collector.problems.add("numbers of spans and queries differ", where, detail)
        yield (
            video_id,
            (where, video.get("duration"), [(query, [span]) for span, query in zip(spans, queries)]),
        )


def _lines(path: Path, collector: VideoCollector) -> Iterator[tuple[str, _Video]]:
    for where, video in read_json_lines(path, collector.problems, _LAYOUT):
        events = video.get("events")
        if not as_text(video.get("video_path")) or not isinstance(events, list):
            raise UserError(f"{path.parent / where}: {_LAYOUT}; this line does not.")
        queries = []
        for event in events:
            if not isinstance(event, dict) or not isinstance(event.get("span"), list):
                raise UserError(f"{path.parent / where}: {_LAYOUT}; one of its events does not.")
            queries.append((event.get("query"), event["span"]))
        yield video["video_path"], (where, video.get("duration"), queries)
