"""Parsers of EPIC-Kitchens-100: verbs, nouns, or actions, which are pairs of both.

EPIC_100_train.csv and EPIC_100_validation.csv have the columns video_id, start_timestamp and stop_timestamp
("00:00:01.89"), verb_class and noun_class; EPIC_100_test_timestamps.csv lacks the classes, which a server keeps secret.
The columns verb and noun hold an annotator's word ("put-down"); the class (1) has its own name ("put") in
EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv, which are needed. Lengths are in EPIC_100_video_info.csv.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.epic_tables import Row, has_columns, parse_epic_segments, read_epic_tables
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.problems import shown
from unloc_jax.errors import UserError

_LAYOUT = (
    "EPIC-Kitchens-100 is tables: EPIC_100_train.csv and the like (columns video_id, start_timestamp, stop_timestamp, "
    "verb_class, noun_class), EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv (id, key), and for the lengths "
    "EPIC_100_video_info.csv (video_id, duration)"
)


def parse_epic_kitchens(files: list[Path]) -> ParsedAnnotations:
    """Reads actions: pairs of a verb and a noun, such as "put plate". `classes` are those in the files.

    Raises:
      UserError: a file is missing, has another layout, or its name does not identify one split.
    """
    return _parse(files, ("verb", "noun"))


def parse_epic_kitchens_verbs(files: list[Path]) -> ParsedAnnotations:
    """Reads verbs; `classes` are all 97. For errors see `parse_epic_kitchens`."""
    return _parse(files, ("verb",))


def parse_epic_kitchens_nouns(files: list[Path]) -> ParsedAnnotations:
    """Reads nouns; `classes` are all 300. For errors see `parse_epic_kitchens`."""
    return _parse(files, ("noun",))


def _parse(files: list[Path], kinds: Sequence[str]) -> ParsedAnnotations:
    collector = VideoCollector()
    tables = read_epic_tables(files, collector.problems, _LAYOUT)
    names = {}
    for kind in kinds:
        paths = [
            path for path, rows in tables.items() if kind in path.name and has_columns(rows, "id", "key")
        ]
        if not paths:
            raise UserError(f"{files[0]}: {_LAYOUT}; EPIC_100_{kind}_classes.csv is not given.")
        names[kind] = _names(tables[paths[0]])
    segments = {path: rows for path, rows in tables.items() if not has_columns(rows, "id", "key")}

    def label_of(where: str, row: dict[str, str]) -> str:
        found = [names[kind].get(row.get(f"{kind}_class", "")) for kind in kinds]
        if all(found):
            return " ".join(map(str, found))
        told = ", ".join(shown(row.get(f"{kind}_class")) for kind in kinds)
        collector.problems.add("unknown class", where, f"{', '.join(kinds)} {told}: the segment is left out")
        return ""

    parsed = parse_epic_segments(
        collector, segments, _LAYOUT, label_column=f"{kinds[0]}_class", label_of=label_of
    )
    parsed.class_ids = {kinds[0]: names[kinds[0]]}
    if len(kinds) == 2:
        pairs = itertools.product(names["verb"].items(), names["noun"].items())
        parsed.class_ids = {"action": {f"{v},{n}": f"{verb} {noun}" for (v, verb), (n, noun) in pairs}}
    if len(kinds) == 1:
        parsed.classes = sorted({*(parsed.classes or ()), *names[kinds[0]].values()})
    return parsed


def _names(rows: list[Row]) -> dict[str, str]:
    """Returns the names of classes by their numbers, as in the file."""
    return {row["id"]: " ".join(row["key"].split()) for _, row in rows if row["key"]}
