"""Parser of CVAT's XML ("CVAT for video 1.1", "CVAT for images 1.1"): when objects and tags are there, as class names.

A <track label> of a video has shapes with the number of their frame, from 0; it is there from a shape until one with
outside="1", or until its last shape. Of images, runs of consecutive <image id> with the same <tag label> are segments.
The export lacks frame rates: a table with the columns video and fps tells them. The video is <source>, else the task's
<name>.
"""

import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.own_rows import Row
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.segments import as_number
from data_pipelines.annotations.tool_rows import (
    parse_framed_exports,
    read_xml,
    row,
    split_of_export,
    unknown_rate,
)
from unloc_jax.errors import UserError
from unloc_jax.names import normal_id

_LAYOUT = "a CVAT export is XML: <annotations> with <meta><task> and <track label> (of videos) or <image><tag label>"


def parse_cvat(files: list[Path]) -> ParsedAnnotations:
    """Reads tracks and tags as class names.

    Raises:
      UserError: a file is missing or not such an export, a frame rate is unknown, or neither the folder nor the name of
        a file tells the split.
    """
    return parse_framed_exports(files, _rows, _LAYOUT)


def _rows(path: Path, collector: VideoCollector, rates: dict[str, float]) -> Iterator[Row]:
    document = read_xml(path, "annotations", _LAYOUT)
    split = split_of_export(path)
    tasks = list(document.iter("task"))
    names = {task.findtext("id"): _video(task) for task in tasks}
    only = next(iter(names.values())) if len(names) == 1 else _video(document.find("meta"))
    found = 0
    for element, label, first, after in (*_tracks(document), *_tags(document)):
        found += 1
        video = names.get(element.get("task_id"), only)
        where = f"{path.name}: {element.tag} {element.get('id')}"
        if not video:
            collector.problems.add("unusable video id", where, "no <source> and no <name> of its task")
            continue
        fps = rates.get(normal_id(video))
        if fps is None:
            raise unknown_rate(path, video)
        yield row(where, video, (first / fps, after / fps), split, label=label)
    if not found:
        raise UserError(f"{path}: there are no tracks and no tags in this file. {_LAYOUT}.")


def _video(element: ElementTree.Element | None) -> str:
    """Returns the name of a task's video, "" if unknown."""
    if element is None:
        return ""
    source = element.findtext("source") or element.findtext(".//source") or element.findtext("name") or ""
    return source.strip().replace("\\", "/").rpartition("/")[2]


_Stretch = tuple[ElementTree.Element, str | None, float, float]


def _tracks(document: ElementTree.Element) -> Iterator[_Stretch]:
    """Yields track, label, first frame and the one after the last, of each stretch in which it is there."""
    for track in document.iter("track"):
        shapes = [(as_number(shape.get("frame")), shape.get("outside") == "1") for shape in track]
        known = sorted((frame, outside) for frame, outside in shapes if frame is not None)
        first: float | None = None
        for frame, outside in known:
            if outside and first is not None:
                yield track, track.get("label"), first, frame
                first = None
            elif not outside and first is None:
                first = frame
        if first is not None:
            yield track, track.get("label"), first, known[-1][0] + 1


def _tags(document: ElementTree.Element) -> Iterator[_Stretch]:
    """Yields image, label, first frame and the one after the last, of each run of frames with a tag."""
    frames: dict[tuple[str | None, str | None], dict[int, ElementTree.Element]] = {}
    for image in document.iter("image"):
        number = as_number(image.get("id"))
        if number is None:
            continue
        for tag in image.iter("tag"):
            frames.setdefault((image.get("task_id"), tag.get("label")), {})[int(number)] = image
    for (_, label), of_label in frames.items():
        for _, run in itertools.groupby(enumerate(sorted(of_label)), key=lambda pair: pair[1] - pair[0]):
            numbers = [frame for _, frame in run]
            yield of_label[numbers[0]], label, numbers[0], numbers[-1] + 1
