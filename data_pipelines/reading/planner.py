"""Planner: makes the examples of rows, without their pictures, and counts the records that cannot be read."""

import sys
from typing import Any

import numpy as np

from data_pipelines.reading.example import Example, empty_example, make_example
from data_pipelines.reading.rows import Place, Source
from unloc_jax.batch import Batch
from unloc_jax.console import show
from unloc_jax.errors import UserError

_MOST_REPORTED = 5  # unreadable records that are reported one by one


class Planner:
    """Plans examples for the threads of a reader.

    Attributes:
      spec: settings of the examples.
      failure: set instead of raised, because readers would add a page to it: more records are unreadable than allowed.
    """

    def __init__(self, source: Source, tolerance: float):
        """Prepares a planner.

        Args:
          source: the records.
          tolerance: share of them that may be unreadable.
        """
        self._source = source
        self.spec = source.spec
        self._tolerance = tolerance
        self._empty = empty_example(source.spec)
        self._unreadable: set[int] = set()
        self.failure: UserError | None = None

    @property
    def num_unreadable(self) -> int:
        return len(self._unreadable)

    def plan(self, place: Place) -> tuple[Example, bool]:
        """Returns the example, and whether it is real: it is empty if the record is unreadable."""
        record = place.record
        if record >= 0 and record not in self._unreadable and self.failure is None:
            try:
                found = self._source.records.borrow(
                    self._source.number(record),
                    self.spec.with_frames,
                    bool(self.spec.features),
                    self.spec.with_sound,
                )
                return make_example(found, self.spec, place.draws, place.start, place.along), True
            except UserError as error:  # it names the file
                self._exclude(record, str(error))
            except ValueError as error:
                self.exclude(record, str(error))
        return self.empty

    @property
    def empty(self) -> tuple[Example, bool]:
        """The row of an unreadable record."""
        return self._empty, False

    def exclude(self, record: int, reason: str) -> None:
        """Excludes a record; reports it, or sets `failure` if there are too many."""
        self._exclude(record, self._source.records.describe(self._source.number(record), reason))

    def _exclude(self, record: int, told: str) -> None:
        if record in self._unreadable:
            return
        self._unreadable.add(record)
        count, size = len(self._unreadable), len(self._source)
        if count > self._tolerance * size:
            allowed = (
                f"{count} of {size} records cannot be read, more than config.data.max_unreadable allows: "
            )
            self.failure = UserError((allowed if self._tolerance else "") + told)
        elif count <= _MOST_REPORTED:
            show(f"note: left out ({count} of {size} so far): {told}", file=sys.stderr)
        elif count & (count - 1) == 0:
            show(f"note: {count} of {size} records cannot be read so far", file=sys.stderr)


def assemble(examples: list[Example], real: list[bool], frames: np.ndarray | None) -> Batch:
    """Makes a batch of examples and their decoded frames, uint8 [B, T, H, W, 3] (None without)."""
    stack = lambda of_each: {name: np.stack([each[name] for each in of_each]) for name in of_each[0]}
    fields: dict[str, Any] = {
        "frames": frames,
        "example_mask": np.array(real, bool),
        "features": stack([example.features for example in examples]),
        "input_masks": stack([example.input_masks for example in examples]),
    } | stack([example.fields for example in examples])
    return Batch(**fields)
