"""The numbers of a protocol."""

from typing import Any

from unloc_jax.inline import metric_tables
from unloc_jax.metrics.protocols.run import tables


class Measured(dict[str, Any]):
    """Metrics by name, as a dictionary; `print` shows tables of text, and a notebook tables.

    Attributes:
      title: what was measured.
    """

    def __init__(self, title: str, metrics: dict[str, Any]):
        super().__init__(metrics)
        self.title = title

    def __repr__(self) -> str:
        return f"Measured({self.title!r}, {len(self)} metrics)"

    def __str__(self) -> str:
        return "\n".join(tables(self))

    def _repr_html_(self) -> str:
        return metric_tables(self.title, self)
