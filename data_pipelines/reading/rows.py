"""Chooses record, window and crop of each row of the batches: functions of the row alone, for readers of any kind.

Batch `step` of training holds the examples of slots step·B … step·B + B-1. A slot determines its epoch and its place in
that epoch's permutation, so any step can be reproduced on any number of hosts, and resuming needs a number instead of
an iterator's state.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data_pipelines.reading.example import Draws, ExampleSpec
from data_pipelines.reading.record_index import RecordIndex
from data_pipelines.reading.slots import draws_of_slot, record_of_slot


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of a dataset and the settings of its examples.

    Attributes:
      records: random access to the records.
      spec: settings of the examples.
      rows: int64 [n], indices of the used records, in order; None = all.
      windows: per used record, the stored frames at which its evaluation windows begin, int64 [W].
    """

    records: RecordIndex
    spec: ExampleSpec
    rows: np.ndarray | None = None
    windows: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.records) if self.rows is None else len(self.rows)

    def number(self, i: int) -> int:
        """Returns the index, among all records, of the i-th used one."""
        return i if self.rows is None else int(self.rows[i])

    @property
    def evaluation_rows(self) -> np.ndarray:
        """Returns int64 [R, 2]: (used record, first frame of the window) of every row of evaluation, in order."""
        starts = self.windows or [np.zeros(1, np.int64)] * len(self)
        record = np.repeat(np.arange(len(self)), [len(of_record) for of_record in starts])
        return np.stack([record, np.concatenate(starts)], axis=1)


class Place(NamedTuple):
    """Describes a row: the used record (-1: none, the row is empty), and the arguments of `make_example`."""

    record: int
    draws: Draws | None = None
    start: int = 0
    along: float = 0.5


@dataclasses.dataclass(frozen=True)
class Rows:
    """This host's rows of the batches, in order.

    Attributes:
      first, end: the rows first … end-1 are read.
      per_batch: this host's rows per batch.
      place: returns what a row shows.
    """

    first: int
    end: int
    per_batch: int
    place: Callable[[int], Place]


def training_rows(
    source: Source, *, seed: int, batch_size: int, start_step: int, num_steps: int, host: int, num_hosts: int
) -> Rows:
    """Returns the rows of batches start_step … num_steps-1."""
    size, per_host = len(source), batch_size // num_hosts

    def place(i: int) -> Place:
        step, row = divmod(i, per_host)
        slot = step * batch_size + host * per_host + row
        return Place(record_of_slot(slot, size, seed), Draws(*draws_of_slot(slot, len(Draws._fields), seed)))

    return Rows(start_step * per_host, num_steps * per_host, per_host, place)


def evaluation_rows(source: Source, *, batch_size: int, crops: int, host: int, num_hosts: int) -> Rows:
    """Returns every row of `source.evaluation_rows`, each as `crops` consecutive ones; the last batch is filled up."""
    shown = np.repeat(source.evaluation_rows, crops, axis=0)
    along = np.linspace(0, 1, crops, dtype=np.float32) if crops > 1 else np.array([0.5])
    batch_size, per_host = batch_size * crops, batch_size * crops // num_hosts

    def place(i: int) -> Place:
        slot = (i // per_host) * batch_size + host * per_host + i % per_host
        if slot >= len(shown):
            return Place(record=-1)
        record, start = shown[slot].tolist()
        return Place(record, None, start, float(along[slot % crops]))

    return Rows(0, -(-len(shown) // batch_size) * per_host, per_host, place)
