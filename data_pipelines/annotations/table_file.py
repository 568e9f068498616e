"""Reads annotation tables (CSV); errors name every fault of the file itself."""

import csv
import io
from collections.abc import Collection
from pathlib import Path

from data_pipelines.annotations.problems import Problems, shown
from data_pipelines.annotations.text_file import read_text
from unloc_jax.errors import UserError

# The separators that spreadsheets use, depending on the country; standard CSV has commas.
_DELIMITERS = ",;\t"


def read_table(
    path: Path, columns: Collection[str], problems: Problems, layout: str
) -> list[tuple[str, dict[str, str]]]:
    """Returns the rows of a table with a header; cells are stripped of surrounding spaces.

    The separator is a comma, semicolon or tab, whichever is most frequent in the header. A row whose number of cells
    differs from the header's is reported and left out.

    Args:
      path: the file.
      columns: required columns.
      problems: receives the findings.
      layout: a clause that describes the expected content, for messages.

    Returns:
      ("FILE:LINE", column → cell) for each row.

    Raises:
      UserError: the file does not exist, is not UTF-8, has no rows, or lacks a column.
    """
    text = read_text(path)
    first_line = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first_line.count))
    found: list[tuple[str, dict[str, str]]] = []
    header: list[str] = []
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not header:
                header = cells
                missing = [column for column in columns if column not in header]
                if missing:
                    raise UserError(
                        f"{path}: {layout}; this file has no column {', '.join(map(repr, missing))}, "
                        f"its header is {shown(header)}."
                    )
                continue
            where = f"{path.name}:{rows.line_num}"
            if len(cells) == len(header):
                found.append((where, dict(zip(header, cells))))
                continue
            problems.add(
                "row with other columns than the header",
                where,
                f"{len(cells)} cells, {len(header)} columns; the row is left out. A text that holds the "
                'separator must be in double quotes: "He sits, then stands."',
            )
    except csv.Error as error:
        raise UserError(f"{path}:{rows.line_num}: not a table: {error}. {layout}.") from error
    if not found and not problems.counts["row with other columns than the header"]:
        raise UserError(f"{path}: there are no rows in this file. {layout}.")
    return found
