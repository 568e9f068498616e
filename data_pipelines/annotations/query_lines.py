"""The layout of QVHighlights' files, which other datasets also use: one JSON object per query.

{"qid": 2579, "query": "…", "vid": "<id>", "duration": 150, "relevant_windows": [[82, 150]],
"relevant_clip_ids": [41, …], "saliency_scores": [[1, 1, 2], …]}, where clip i lasts from 2·i to 2·i + 2
seconds, and only the relevant clips have scores, one per annotator. The split is taken from the file name.

All queries of a video become one record: a query's text is repeated for each of its windows, with the attribute "qid"
(without qids, "query", the number of the query in the video). If a file contains no windows at all (the test split),
its queries become texts without segments. Otherwise "relevant_windows": [] says that the query has no answer in its
video, as in generalised moment retrieval.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector, by_video
from data_pipelines.annotations.json_file import read_json_lines
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.saliency import as_scores, of_relevant_clips
from data_pipelines.annotations.segments import RecordMaker, query_attributes
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

# (where, query)
Query = tuple[str, dict[str, Any]]
# (collector, where, maker, query): adds the scores of a query to a record
AddScores = Callable[[VideoCollector, str, RecordMaker, dict[str, Any]], None]


def read_queries(path: Path, collector: VideoCollector, layout: str) -> list[Query]:
    """Reads the queries of a JSON Lines file; each has a "vid".

    Raises:
      UserError: the file is not JSON Lines, or has another layout.
    """
    queries = read_json_lines(path, collector.problems, layout)
    for where, query in queries:
        if not as_text(query.get("vid")):
            raise UserError(f'{path.parent / where}: {layout}; there is no "vid" here.')
        windows = query.get("relevant_windows")
        if windows is not None and not isinstance(windows, list):
            raise UserError(f'{path.parent / where}: {layout}; "relevant_windows" is {shown(windows)}.')
    return queries


def add_queries(
    collector: VideoCollector,
    path: Path,
    queries: list[Query],
    *,
    duration_of: Callable[[VideoCollector, str, dict[str, Any]], Any],
    add_scores: AddScores,
    more_of: Callable[[dict[str, Any], float], dict[str, str]] = lambda query, duration_s: {},
) -> None:
    """Adds the queries of a file, whose name contains the split, to a collector.

    more_of: (query, its video's duration in seconds or 0) → further attributes of its texts.

    Raises:
      UserError: the file name does not identify one split.
    """
    split = collector.split_of(path)
    queries_only = not any(query.get("relevant_windows") for _, query in queries)
    for video_id, of_video in by_video((query["vid"], (where, query)) for where, query in queries).items():
        num_segments = sum(len(query.get("relevant_windows") or ()) for _, query in of_video)
        if not collector.is_new(path, video_id, split, num_segments):
            continue
        where, first = of_video[0]
        duration = duration_of(collector, where, first)
        maker = collector.maker(path, video_id, split, duration, text_name="query")
        for number, (where, query) in enumerate(of_video):
            attributes = query_attributes(query.get("qid"), number) | more_of(query, maker.duration_s)
            windows = query.get("relevant_windows")
            if windows == [] and not queries_only:
                maker.add_absent(query.get("query"), attributes, where)
            elif not windows:
                maker.add_query(query.get("query"), attributes, where)
            for window in windows or ():
                maker.add(window, query.get("query"), attributes, where)
            add_scores(collector, where, maker, query)
        collector.keep(maker.finish(queries_only=queries_only))


def add_relevant_scores(
    collector: VideoCollector, where: str, maker: RecordMaker, query: dict[str, Any]
) -> None:
    """Adds the "saliency_scores" of "relevant_clip_ids"; reports and omits scores that do not match the clips."""
    told = query.get("saliency_scores")
    if not told:
        return
    ids, scores = query.get("relevant_clip_ids"), as_scores(told)
    every = None if scores is None else of_relevant_clips(ids, scores, maker.duration_s)
    if every is None:
        detail = f"clips {shown(ids)}, scores {shown(told)}, duration {maker.duration_s:g} s"
        collector.problems.add("saliency scores do not fit", where, detail)
    else:
        maker.add_saliency(query.get("query"), every)
