"""Parser of NExT-GQA: questions, and the moments that answer them.

val.csv and test.csv have the columns video_id, question, answer, qid, type, …; gsub_val.json and gsub_test.json hold
{video_id: {"duration": s, "location": {qid: [[s, s], …]}, "fps"}}. The training questions have no moments: train.csv is
left out. With map_vid_vidorID.json ({video_id: "0101/2909445186"}), videos are looked for in VidOR's folders.
"""

from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector, by_video
from data_pipelines.annotations.json_file import read_json
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.table_file import read_table
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

_LAYOUT = (
    "NExT-GQA is tables of questions, val.csv and test.csv (columns video_id, question, qid), with gsub_val.json and "
    'gsub_test.json like {"<video_id>": {"duration": 34, "location": {"<qid>": [[1.2, 5.8], …]}}}'
)


def parse_nextgqa(files: list[Path]) -> ParsedAnnotations:
    """Reads NExT-GQA files; the texts are questions with the attributes "qid" (VIDEO_QID), "type" and "answer".

    Raises:
      UserError: a file is missing, has another layout, or its name does not identify one split.
    """
    collector = VideoCollector()
    moments: dict[str, dict[str, Any]] = {}
    folders: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() == ".json":
            _read_json(path, collector, moments, folders)
    tables = {
        path: read_table(path, ("video_id", "question", "qid"), collector.problems, _LAYOUT)
        for path in files
        if path.suffix.lower() != ".json"
    }
    if not tables or not moments:
        raise UserError(f"{files[0]}: {_LAYOUT}; {'no gsub_*.json' if tables else 'no table'} is given.")
    for path, rows in tables.items():
        split = collector.split_of(path)
        for video_id, of_video in by_video((row["video_id"], (where, row)) for where, row in rows).items():
            video = moments.get(str(video_id), {})
            locations = {as_text(qid): spans for qid, spans in video.get("location", {}).items()}
            num_moments = sum(len(locations.get(row["qid"], [])) for _, row in of_video)
            name = folders.get(str(video_id), video_id)
            if not collector.is_new(path, name, split, num_moments):
                continue
            maker = collector.maker(path, name, split, video.get("duration"), text_name="question")
            for where, row in of_video:
                attributes = {"qid": f"{video_id}_{row['qid']}"}
                attributes |= {key: row[key] for key in ("type", "answer") if row.get(key)}
                spans = locations.get(row["qid"])
                if not spans:
                    maker.add_query(row["question"], attributes, where)
                for span in spans or ():
                    maker.add(span, row["question"], attributes, where)
            collector.keep(maker.finish())
    return collector.parsed


def _read_json(
    path: Path, collector: VideoCollector, moments: dict[str, dict[str, Any]], folders: dict[str, str]
) -> None:
    content = read_json(path, collector.problems, _LAYOUT)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: {_LAYOUT}; this file does not.")
    if all(isinstance(value, str) for value in content.values()):
        folders |= content
        return
    for video_id, video in content.items():
        location = video.get("location") if isinstance(video, dict) else None
        if not isinstance(location, dict) or not all(isinstance(spans, list) for spans in location.values()):
            raise UserError(f'{path}: {_LAYOUT}; the entry "{video_id}" does not.')
        moments[video_id] = video
