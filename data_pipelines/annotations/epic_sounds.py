"""Parser of EPIC-Sounds: EPIC_Sounds_train.csv and EPIC_Sounds_validation.csv.

Columns video_id, start_timestamp and stop_timestamp ("00:00:02.069"), class, class_id. The detection challenge's test
videos, EPIC_Sounds_detection_test_videos.csv, are a list without classes. Lengths are in EPIC_100_video_info.csv of
EPIC-Kitchens-100, whose videos these are.
"""

from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.epic_tables import parse_epic_segments, read_epic_tables
from data_pipelines.annotations.parsed import ParsedAnnotations

_LAYOUT = (
    "EPIC-Sounds is tables: EPIC_Sounds_train.csv and the like (columns video_id, start_timestamp, stop_timestamp, "
    "class), and for the lengths EPIC_100_video_info.csv (video_id, duration)"
)


def parse_epic_sounds(files: list[Path]) -> ParsedAnnotations:
    """Reads EPIC-Sounds tables; the texts are class names.

    Raises:
      UserError: a file is missing, has another layout, or its name does not identify one split.
    """
    collector = VideoCollector()
    tables = read_epic_tables(files, collector.problems, _LAYOUT)
    return parse_epic_segments(
        collector, tables, _LAYOUT, label_column="class", label_of=lambda where, row: row["class"]
    )
