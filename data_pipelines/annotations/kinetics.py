"""Parser of Kinetics-400, -600 and -700: tables with the columns label, youtube_id, time_start, time_end, split.

The videos are trimmed clips, cut from time_start to time_end. A clip becomes one video with one segment that spans it,
and with the id "<youtube_id>_<time_start:06d>_<time_end:06d>", the name of its file in the usual downloads.
"""

import re
from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.segments import LONGEST_S, RecordMaker, as_number
from data_pipelines.annotations.split_names import split_in_name, split_of_subset
from data_pipelines.annotations.table_file import read_table

_LAYOUT = (
    'Kinetics looks like a CSV with the header "label,youtube_id,time_start,time_end,split" (in test.csv without '
    '"label")'
)
_CLIP_ID = re.compile(r"(.+)_\d{6}_\d{6}")


def parse_kinetics(files: list[Path]) -> ParsedAnnotations:
    """Reads Kinetics tables; the texts are class names.

    A clip without a label (test sets) cannot be used and is reported. One with an unknown split goes to "train" and is
    reported.

    Raises:
      UserError: a file is missing, or has another layout.
    """
    collector = VideoCollector()
    for path in files:
        rows = read_table(path, ("youtube_id", "time_start", "time_end"), collector.problems, _LAYOUT)
        for where, row in rows:
            _add_row(collector, path, where, row)
    return collector.with_classes()


def source_of_clip(video_id: str) -> str | None:
    """Returns the YouTube id within a clip's id, which some downloads use as file name; None for other ids."""
    match = _CLIP_ID.fullmatch(video_id)
    return match[1] if match else None


def _add_row(collector: VideoCollector, path: Path, where: str, row: dict[str, str]) -> None:
    split = split_of_subset(row.get("split")) or split_in_name(path)
    start_s, end_s = (as_number(row[name]) for name in ("time_start", "time_end"))
    times = f"[{shown(row['time_start'])}, {shown(row['time_end'])}]"
    if start_s is None or end_s is None or not 0 <= start_s <= LONGEST_S or not 0 <= end_s <= LONGEST_S:
        collector.parsed.count(split or "train", 1)
        collector.problems.add("not a number", where, f"segment {times}")
        return
    video_id = f"{row['youtube_id']}_{int(start_s):06d}_{int(end_s):06d}"
    if not collector.is_new(path, video_id, split or "train", 1):
        return
    if split is None:
        collector.problems.add("unknown subset", where, f"split {shown(row.get('split'))}; put into train")
    length_s = end_s - start_s
    maker = RecordMaker(
        video_id,
        length_s if length_s > 0 else None,
        split or "train",
        where,
        collector.problems,
        text_name="label",
        duration_expected=False,
    )
    # Some copies have quotes around labels, inside those of the CSV format.
    maker.add([0.0, length_s], row.get("label", "").strip('"'))
    collector.keep(maker.finish())
