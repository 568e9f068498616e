"""Parser of users' own tables with the header video,start,end,text[,split][,duration]. See docs/annotations.md."""

from pathlib import Path

from data_pipelines.annotations.collector import VideoCollector
from data_pipelines.annotations.own_rows import Row, parse_rows
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.table_file import read_table
from unloc_jax.errors import UserError

_LAYOUT = (
    'the table looks like the header "video,start,end,text" (or "label" for class names; columns "split" and '
    '"duration" may follow) and rows like "clip_1.mp4,2.5,7,A man opens the door."'
)


def parse_csv(files: list[Path]) -> ParsedAnnotations:
    """Reads tables of segments; the texts are per-video queries, or class names where the column is "label".

    Raises:
      UserError: a file is missing, has another layout, or neither it nor its name contains the split.
    """
    collector = VideoCollector()
    found = []
    for path in files:
        rows = read_table(path, ("video", "start", "end"), collector.problems, _LAYOUT)
        if rows and len({"text", "label"} & set(rows[0][1])) != 1:
            raise UserError(f'{path}: {_LAYOUT}; this file must have a column "text" or a column "label".')
        found.append((path, [Row(where, row) for where, row in rows]))
    return parse_rows(collector, found, _LAYOUT)
