"""What the exports of labelling tools share: rows of users' own data, and a split that their folder or name tells."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.own_rows import Row, parse_rows
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import Problems
from data_pipelines.annotations.segments import as_number
from data_pipelines.annotations.split_names import split_in_name
from data_pipelines.annotations.table_file import read_table
from data_pipelines.annotations.text_file import read_text
from unloc_jax.errors import UserError
from unloc_jax.names import normal_id

_RATES_LAYOUT = 'a table of frame rates has the columns "video" and "fps"'


def split_of_export(path: Path) -> str:
    """Returns the split that the name of an export's folder contains, else its own name.

    Raises:
      UserError: neither contains one split.
    """
    split = split_in_name(path.absolute().parent.with_suffix("")) or split_in_name(path)
    if split is None:
        raise UserError(
            f"{path}: an export does not tell the split: put it into a folder named train, val or test, such as "
            f"train/{path.name}."
        )
    return split


def row(
    where: str, video: Any, segment: tuple[Any, Any], split: str, *, duration: Any = None, **text: Any
) -> Row:
    """Returns a row of users' own data; text: `text=` a sentence, or `label=` a class name."""
    values = {"video": video, "start": segment[0], "end": segment[1], "split": split, **text}
    return Row(where, values if duration is None else {**values, "duration": duration})


def as_frame_rate(value: Any) -> float | None:
    """Converts a plausible number of frames per second; returns None for anything else."""
    fps = as_number(value)
    return fps if fps is not None and 1e-3 <= fps <= 1e6 else None


def read_frame_rates(files: list[Path], problems: Problems) -> dict[str, float]:
    """Returns the frames per second by normal video id, from the tables among the files.

    Raises:
      UserError: a table has another layout, or a rate is not a positive number.
    """
    rates = {}
    for path in files:
        if path.suffix.lower() != ".csv":
            continue
        for where, cells in read_table(path, ("video", "fps"), problems, _RATES_LAYOUT):
            fps = as_frame_rate(cells["fps"])
            if fps is None:
                raise UserError(f"{path.parent / where}: {_RATES_LAYOUT}; {cells['fps']!r} is no frame rate.")
            rates[normal_id(cells["video"])] = fps
    return rates


def parse_framed_exports(
    files: list[Path], rows_of: Callable[[Path, VideoCollector, dict[str, float]], Iterable[Row]], layout: str
) -> ParsedAnnotations:
    """Parses exports that count frames, with tables of frame rates among them.

    Args:
      files: exports, and tables as `read_frame_rates` reads them.
      rows_of: (an export, the collector, frames per second by normal video id) → its rows.
      layout: what an export looks like, for messages.

    Raises:
      UserError: no export is given; and see `read_frame_rates`, `parse_rows` and `rows_of`.
    """
    collector = VideoCollector()
    rates = read_frame_rates(files, collector.problems)
    exports = [path for path in files if path.suffix.lower() != ".csv"]
    if not exports:
        raise UserError(f"{files[0]}: {layout}; no export is given.")
    return parse_rows(collector, [(path, list(rows_of(path, collector, rates))) for path in exports], layout)


def read_xml(path: Path, root: str, layout: str) -> ElementTree.Element:
    """Reads an XML file and returns its root, <root>.

    Raises:
      UserError: the file is missing, not XML, or its root is another one.
    """
    try:
        document = ElementTree.fromstring(read_text(path).encode())
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path}: not XML: {error}. {layout}.") from error
    if document.tag != root:
        raise UserError(f"{path}: {layout}; this is <{document.tag}>.")
    return document


def unknown_rate(path: Path, video: Any) -> UserError:
    """Returns the error of a video whose frame rate the export does not tell."""
    return UserError(
        f"{path}: the export counts frames and does not tell the frame rate of {video!r}. Give a table with the "
        'columns "video" and "fps", such as frame_rates.csv, among the annotation files.'
    )
