"""Parser of ActivityNet 1.3, in its two layouts.

Official: {"database": {id: {"duration": s, "subset": "training", "annotations": [{"segment": [s, s], "label":
"…"}]}}}. BMN's copy, published with many feature sets: {id: {"duration_second": s, "annotations": […]}}. It lacks the
subsets, which BMN keeps in video_info_new.csv (columns video, …, subset, …); that file may be given as well.
"""

from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.database import add_database, read_database, segment_of
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import Problems
from data_pipelines.annotations.split_names import split_of_subset
from data_pipelines.annotations.table_file import read_table
from unloc_jax.errors import UserError
from unloc_jax.names import normal_id

_LAYOUT = (
    'ActivityNet 1.3 looks like {"database": {"<id>": {"duration": 82.73, "subset": "training", '
    '"annotations": [{"segment": [6.2, 77.7], "label": "Ballet"}]}}}, or the same without "database"'
)
_SUBSETS_LAYOUT = 'a CSV of subsets needs the columns "video" and "subset"'


def parse_activitynet(files: list[Path]) -> ParsedAnnotations:
    """Reads ActivityNet 1.3 files; the texts are class names.

    A video with an unknown subset goes to "train" and is reported.

    Raises:
      UserError: a file is missing, is not JSON (or a CSV of subsets), or has another layout.
    """
    collector = VideoCollector()
    subsets: dict[str, str] = {}
    for path in files:
        if path.suffix.lower() == ".csv":
            subsets |= read_subsets(path, collector.problems)
    annotation_files = [path for path in files if path.suffix.lower() != ".csv"]
    if not annotation_files:
        raise UserError(
            f"{files[0]}: this file only tells the subsets; give the JSON file with the segments as well."
        )
    for path in annotation_files:
        add_database(
            collector,
            path,
            read_database(path, collector, _LAYOUT),
            text_name="label",
            split_of=lambda video_id, video: split_of_subset(
                video.get("subset", subsets.get(normal_id(video_id)))
            ),
            add=lambda maker, annotation, _: maker.add(segment_of(annotation), annotation.get("label")),
        )
    return collector.with_classes()


def read_subsets(path: Path, problems: Problems) -> dict[str, str]:
    """Reads a CSV with the columns "video" and "subset"; returns subsets by video id.

    Raises:
      UserError: a file is missing, or has another layout.
    """
    rows = read_table(path, ("video", "subset"), problems, _SUBSETS_LAYOUT)
    return {normal_id(row["video"]): row["subset"] for _, row in rows}
