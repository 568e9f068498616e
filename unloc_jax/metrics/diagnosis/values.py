"""Renders a diagnosis as values for a JSON file."""

from typing import Any

from unloc_jax.metrics.diagnosis.section import Diagnosis


def to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Returns the summary, and per section its tables as lists of objects, and its readings; null for NaN."""
    return {
        "summary": {name: _json(value) for name, value in diagnosis.summary.items()},
        **{
            section.name: {
                "title": section.title,
                "tables": [
                    [dict(zip(table.columns, map(_json, row), strict=True)) for row in table.rows]
                    for table in section.tables
                ],
                "readings": list(section.readings),
            }
            for section in diagnosis.sections
        },
    }


def _json(value: Any) -> Any:
    return None if value != value else value
