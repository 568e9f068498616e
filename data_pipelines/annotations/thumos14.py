"""Parser of THUMOS14, in its two layouts.

JSON in the layout of ActivityNet, as published by ActionFormer, OpenTAD and others. Official: one text file per class
and set, such as BaseballPitch_val.txt and BaseballPitch_test.txt, with a line "video_id start end" (seconds) per
segment.

The challenge's validation set (200 untrimmed videos) is the set that everybody trains on: it becomes "train", whatever
a file calls it. Ambiguous segments (Ambiguous_val.txt, Ambiguous_test.txt) have no class: they are reported and left
out.
"""

from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector, by_video
from data_pipelines.annotations.database import add_database, read_database, segment_of
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.segments import RecordMaker
from data_pipelines.annotations.split_names import split_in_name, split_of_subset
from data_pipelines.annotations.text_file import read_lines
from unloc_jax.errors import UserError
from unloc_jax.names import as_text

_LAYOUT = (
    'THUMOS14 looks like {"database": {"video_test_0000004": {"subset": "test", "duration": 33.8, "annotations": '
    '[{"segment": [0.2, 1.1], "label": "CricketBowling"}]}}}, or like lines "video_test_0000324 49.2 53.5" in '
    "text files named CLASS_val.txt and CLASS_test.txt"
)
_SETS = {"video_validation_": "train", "video_test_": "test"}
_AMBIGUOUS = "ambiguous"


def parse_thumos14(files: list[Path]) -> ParsedAnnotations:
    """Reads THUMOS14 files; the texts are class names.

    Raises:
      UserError: a file is missing, or has another layout.
    """
    collector = VideoCollector()
    text_files = [path for path in files if path.suffix.lower() != ".json"]
    for path in files:
        if path not in text_files:
            add_database(
                collector,
                path,
                read_database(path, collector, _LAYOUT),
                text_name="label",
                split_of=lambda video_id, video: _split(video_id) or split_of_subset(video.get("subset")),
                add=lambda maker, annotation, video: _add(
                    collector, maker, segment_of(annotation), annotation.get("label")
                ),
            )
    _add_text_files(collector, text_files)
    return collector.with_classes()


def _split(video_id: str) -> str | None:
    return next((split for prefix, split in _SETS.items() if video_id.startswith(prefix)), None)


def _add(
    collector: VideoCollector, maker: RecordMaker, segment: Any, label: Any, where: str | None = None
) -> None:
    if as_text(label).strip().lower() == _AMBIGUOUS:
        collector.problems.add("ambiguous segment", where or maker.where, f"segment {shown(segment)}")
    else:
        maker.add(segment, label, where=where)


def _add_text_files(collector: VideoCollector, files: list[Path]) -> None:
    """Adds the videos of all files at once: a video with actions of two classes occurs in two files."""
    rows: list[tuple[str | int, tuple[Path, str, list[str], str]]] = []
    for path in files:
        label = path.stem.rpartition("_")[0]
        if not label:
            raise UserError(f"{path}: {_LAYOUT}; the name of this file tells no class.")
        num_good = 0
        for number, line in read_lines(path):
            where = f"{path.name}:{number}"
            words = line.split()
            if len(words) != 3:
                collector.problems.add("not an annotation line", where, shown(line))
                continue
            num_good += 1
            rows.append((words[0], (path, where, words[1:], label)))
        if not num_good:
            raise UserError(f"{path}: {_LAYOUT}; no line of this file does.")
    for video_id, lines in by_video(rows).items():
        path = lines[0][0]
        split = _split(str(video_id)) or split_in_name(path)
        if not collector.is_new(path, video_id, split or "train", len(lines)):
            continue
        if split is None:
            collector.problems.add("unknown subset", f"{path.name}: {video_id}", "put into train")
        # The files have no durations, and the official evaluation counts each duplicate.
        options = {"text_name": "label", "duration_expected": False, "keep_duplicates": True}
        maker = collector.maker(path, video_id, split or "train", None, **options)
        for _, where, segment, label in lines:
            _add(collector, maker, segment, label, where)
        collector.keep(maker.finish())
