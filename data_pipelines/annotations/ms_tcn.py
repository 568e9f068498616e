"""Parser of MS-TCN's layout of 50Salads, Breakfast and GTEA: a label for every frame.

groundTruth/VIDEO.txt has one label per line and frame, mapping.txt the classes ("0 cut_tomato"), and
splits/train.split1.bundle and test.split1.bundle the names of the files of the first of 4 or 5 splits. Runs of equal
labels become segments.

Only the label "background" is none, as in MS-TCN's eval.py: GTEA has it; 50Salads' action_start and action_end and
Breakfast's SIL count as actions. The files lack the frame rate. Those of the three datasets are known by the names of
their videos; for others a table with the columns video and fps may be given.
"""

import itertools
import re
from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from data_pipelines.annotations.text_file import read_lines
from data_pipelines.annotations.tool_rows import read_frame_rates
from unloc_jax.errors import UserError
from unloc_jax.names import normal_id, normal_text

BACKGROUND = "background"

_LAYOUT = (
    "MS-TCN's layout is groundTruth/*.txt with a label per line and frame, mapping.txt with lines like "
    '"0 cut_tomato", and splits/train.split1.bundle and test.split1.bundle with the names of the text files'
)
_FPS = [
    (re.compile(r"rgb-\d\d-\d"), 30.0),  # 50Salads
    (re.compile(r"P\d\d_(cam\d\d|webcam\d\d|stereo\d\d)_P\d\d_\w+"), 15.0),  # Breakfast
    (re.compile(r"S\d_[A-Za-z]+_C\d"), 15.0),  # GTEA
]
_NUMBER_OF_SPLIT = re.compile(r"split(\d+)")


def parse_ms_tcn(files: list[Path]) -> ParsedAnnotations:
    """Reads the files of one split; the texts are class names, as in mapping.txt.

    Raises:
      UserError: a file is missing or has another layout, the bundles are of several splits, or a frame rate is unknown.
    """
    collector = VideoCollector()
    bundles = [path for path in files if path.suffix == ".bundle"]
    tables = [path for path in files if path.suffix.lower() == ".csv"]
    mappings = [path for path in files if path.name == "mapping.txt"]
    frames = {path.stem: path for path in files if path not in (*bundles, *tables, *mappings)}
    for path in (*bundles, *mappings, *tables):
        read_lines(path)  # a missing file is named before others are asked for
    if not frames:
        raise UserError(f"{files[0]}: {_LAYOUT}; no file of groundTruth is given.")
    if not bundles:
        for path in frames.values():
            read_lines(path)
        raise UserError(
            f"{next(iter(frames.values()))}: {_LAYOUT}; no bundle is given, so the split is unknown."
        )
    if not mappings:
        raise UserError(f"{files[0]}: {_LAYOUT}; mapping.txt is not given.")
    fps_of = read_frame_rates(tables, collector.problems)
    classes = _read_mapping(mappings[0], collector)
    unused = dict(frames)
    for name, where, split in _read_bundles(bundles, collector):
        unused.pop(name, None)
        if name in frames:
            _add_video(collector, frames[name], split, _fps(frames[name], fps_of), classes)
        else:
            collector.problems.add("video without ground truth", where, f"no file {name}.txt")
    for path in unused.values():
        collector.problems.add("video in no bundle", path.name, "left out")
    parsed = collector.with_classes()
    parsed.classes = sorted({*(parsed.classes or ()), *classes} - {BACKGROUND})
    return parsed


def _read_mapping(path: Path, collector: VideoCollector) -> set[str]:
    """Returns the names of the classes."""
    classes = set()
    for number, line in read_lines(path):
        _, _, name = line.strip().partition(" ")
        if normal_text(name):
            classes.add(normal_text(name))
        else:
            collector.problems.add("not an annotation line", f"{path.name}:{number}", shown(line))
    return classes


def _read_bundles(bundles: list[Path], collector: VideoCollector) -> list[tuple[str, str, str]]:
    """Returns (name of the text file without ending, place, split) of every line.

    Raises:
      UserError: a name tells no split, or the files are of several divisions into splits.
    """
    numbers = {number for path in bundles for number in _NUMBER_OF_SPLIT.findall(path.name)}
    if len(numbers) > 1:
        raise UserError(
            f"{bundles[0]}: bundles of the splits {', '.join(sorted(numbers))} are given. Every split trains and tests "
            "on other videos: check and build one at a time."
        )
    found = []
    for path in bundles:
        split = collector.split_of(path)
        found += [
            (Path(line.strip()).stem, f"{path.name}:{number}", split) for number, line in read_lines(path)
        ]
    return found


def _fps(path: Path, fps_of: dict[str, float]) -> float:
    """Returns the frames per second of a video.

    Raises:
      UserError: they are unknown.
    """
    fps = fps_of.get(normal_id(path.stem))
    if fps is None:
        fps = next((fps for pattern, fps in _FPS if pattern.fullmatch(path.stem)), None)
    if fps is None:
        raise UserError(
            f"{path}: the frame rate of its labels is unknown. Those of 50Salads, Breakfast and GTEA are known; give "
            'a table with the columns "video" and "fps", such as frame_rates.csv, among the annotation files.'
        )
    return fps


def _add_video(collector: VideoCollector, path: Path, split: str, fps: float, classes: set[str]) -> None:
    labels = [normal_text(line) for _, line in read_lines(path)]
    runs = []
    frame = 0
    for label, run in itertools.groupby(labels):
        end = frame + sum(1 for _ in run)
        if label != BACKGROUND:
            runs.append(([frame / fps, end / fps], label))
        frame = end
    if not collector.is_new(path, path.stem, split, len(runs)):
        return
    maker = collector.maker(path, path.stem, split, frame / fps if frame else None, text_name="label")
    for segment, label in runs:
        if label not in classes:
            collector.problems.add("label that is not in mapping.txt", path.name, shown(label))
        maker.add(segment, label)
    collector.keep(maker.finish())
