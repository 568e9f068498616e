"""Parser of TVR (tvr_train_release.jsonl, tvr_val_release.jsonl).

One line per query: {"vid_name", "duration", "ts": [s, s], "desc", "desc_id", "type": "v", "t" or "vt"}. The type tells
whether a query is about the picture, the subtitles or both; it becomes an attribute, so that evaluation reports each.
"""

from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector, by_video
from data_pipelines.annotations.json_file import read_json_lines
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.segments import query_attributes
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

_LAYOUT = (
    'TVR looks like lines {"vid_name": "<id>", "duration": 61.46, "ts": [16.48, 33.87], "desc": "…", "type": "v", '
    '"desc_id": 90200}'
)


def parse_tvr(files: list[Path]) -> ParsedAnnotations:
    """Reads TVR files; the texts are per-video queries with the attributes "qid" (desc_id) and "type".

    Raises:
      UserError: a file is missing, has another layout, or its name does not identify one split. The public test file
        names no videos, so that it cannot be read.
    """
    collector = VideoCollector()
    for path in files:
        queries = read_json_lines(path, collector.problems, _LAYOUT)
        for where, query in queries:
            if not as_text(query.get("vid_name")):
                raise UserError(
                    f'{path.parent / where}: {_LAYOUT}; there is no "vid_name" here. (The public test file is for '
                    "retrieval from all videos: it does not tell a query's video.)"
                )
        split = collector.split_of(path)
        for video_id, of_video in by_video(
            (query["vid_name"], (where, query)) for where, query in queries
        ).items():
            if not collector.is_new(path, video_id, split, len(of_video)):
                continue
            maker = collector.maker(path, video_id, split, of_video[0][1].get("duration"), text_name="query")
            for number, (where, query) in enumerate(of_video):
                attributes = query_attributes(query.get("desc_id"), number)
                if as_text(query.get("type")):
                    attributes["type"] = as_text(query["type"])
                maker.add(query.get("ts"), query.get("desc"), attributes, where)
            collector.keep(maker.finish())
    return collector.parsed
