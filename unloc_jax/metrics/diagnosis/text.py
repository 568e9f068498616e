"""Renders a diagnosis as text for a terminal."""

import textwrap

from unloc_jax.metrics.diagnosis.section import Diagnosis, Section, Table, Value, has_content

_WIDTH = 110
_MOST_CELL = 44


def to_text(diagnosis: Diagnosis) -> str:
    """Returns heading, summary, terms, then each section: title, note, tables, readings (each after an arrow)."""
    lines = [diagnosis.title, *(f"  {name}: {shown(value)}" for name, value in diagnosis.summary.items())]
    lines += ["", *textwrap.wrap(diagnosis.terms, _WIDTH)]
    for section in diagnosis.sections:
        lines += ["", *_section(section)]
    return "\n".join(lines)


def shown(value: Value) -> str:
    """Formats floats with one decimal, None (and NaN) as a dash."""
    if value is None or value != value:
        return "–"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _section(section: Section) -> list[str]:
    lines = [section.title, "=" * len(section.title), *textwrap.wrap(section.note, _WIDTH)]
    for table in filter(has_content, section.tables):
        lines += ["", *_table(table)]
    if section.readings:
        lines.append("")
    for reading in section.readings:
        lines += textwrap.wrap(reading, _WIDTH, initial_indent="→ ", subsequent_indent="  ")
    return lines


def _table(table: Table) -> list[str]:
    cells = [list(table.columns), *([_cut(shown(value)) for value in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    is_text = [
        all(isinstance(row[i], str) for row in table.rows) and bool(table.rows) for i in range(len(widths))
    ]
    return [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, is_text)
        ).rstrip()
        for row in cells
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CELL else text[: _MOST_CELL - 1] + "…"
