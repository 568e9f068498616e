"""Makes batches from TFRecord shards with tf.data, as a function of (seed, step) alone.

Batch `step` holds the examples of slots step·B … step·B + B-1. A slot determines its epoch and its place in that
epoch's permutation, so any step can be reproduced on any number of hosts, and resuming needs a number instead of an
iterator's state. Records are read by random access; `example.py` plans an example, and only the planned frames are
decoded, each as a separate element, which keeps all threads busy.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.quiet_tensorflow import import_tensorflow
from data_pipelines.reading.example import Draws, Example, ExampleSpec, empty_example, make_example
from data_pipelines.reading.record_index import RecordIndex
from unloc_jax.batch import Batch
from unloc_jax.errors import UserError

import_tensorflow()
import tensorflow as tf  # noqa: E402  only after it has been silenced

_MOST_REPORTED = 5  # unreadable records that are reported one by one


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


def training_batches(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    start_step: int,
    num_steps: int,
    host: int = 0,
    num_hosts: int = 1,
) -> Iterator[Batch]:
    """Yields batches start_step … num_steps-1 of a run; this host's part of each (batch_size / num_hosts videos).

    An unreadable record becomes a row whose example_mask is False, and is reported.

    Raises:
      UserError: more than config.data.max_unreadable of the records are unreadable.
    """
    size, per_host = len(source), batch_size // num_hosts

    def locate(i):
        step, row = i // per_host, i % per_host
        slot = step * batch_size + host * per_host + row
        record = _record_of_slot(slot, size, seed)
        draws = tf.random.stateless_uniform([len(Draws._fields)], seed=[seed, tf.cast(slot, tf.int32)])
        return i, record, tf.constant(0, tf.int64), tf.constant(0.5), draws

    planner = _Planner(source, tolerance=source.spec.config.max_unreadable)
    while True:
        slots = tf.data.Dataset.range(start_step * per_host, num_steps * per_host)
        try:
            for batch in _batches(slots.map(locate), planner, per_host):
                start_step += 1
                yield batch
        except tf.errors.InvalidArgumentError:
            # A picture was whole but could not be decoded: exclude its record and repeat the batch.
            planner.set_undecodable_aside()
        else:
            return


def _record_of_slot(slot: tf.Tensor, size: int, seed: int) -> tf.Tensor:
    """Returns which of `size` records a slot shows; every epoch has its own permutation."""
    epoch, position = slot // size, slot % size
    return tf.random.experimental.index_shuffle(position, seed=[seed, epoch], max_index=size - 1)


def training_records(size: int, seed: int, batch_size: int, step: int) -> list[int]:
    """Returns the indices, among `size` used records, of training batch `step` (from 0), over all hosts."""
    slots = range(step * batch_size, (step + 1) * batch_size)
    return [int(_record_of_slot(tf.constant(slot, tf.int64), size, seed)) for slot in slots]


def evaluation_batches(
    source: Source, *, batch_size: int, crops: int = 1, host: int = 0, num_hosts: int = 1
) -> Iterator[Batch]:
    """Yields every row of `source.evaluation_rows` once, in order; masked rows fill up the last batch.

    With several crops a row becomes `crops` consecutive rows, from one end of the longer side to the other, and a batch
    has batch_size · crops rows.

    Raises:
      UserError: a record is unreadable.
    """
    rows = np.repeat(source.evaluation_rows, crops, axis=0)
    along = tf.constant(np.linspace(0, 1, crops) if crops > 1 else [0.5], tf.float32)
    batch_size, per_host = batch_size * crops, batch_size * crops // num_hosts
    num_batches = -(-len(rows) // batch_size)

    def locate(i):
        slot = (i // per_host) * batch_size + host * per_host + i % per_host
        record, start = tf.unstack(tf.gather(tf.constant(rows), tf.minimum(slot, len(rows) - 1)))
        return i, tf.where(slot < len(rows), record, -1), start, along[slot % crops], tf.zeros([0])

    planner = _Planner(source, tolerance=0.0)
    slots = tf.data.Dataset.range(num_batches * per_host)
    try:
        yield from _batches(slots.map(locate), planner, per_host)
    except tf.errors.InvalidArgumentError:
        planner.set_undecodable_aside()
        raise AssertionError("a picture could not be decoded, but now it can") from None


class _Planner:
    """Plans examples for tf.data's threads, and keeps everything except for the pictures until a batch is complete."""

    def __init__(self, source: Source, tolerance: float):
        self._source = source
        self.spec = source.spec
        self._tolerance = tolerance
        self._empty = empty_example(source.spec)
        self._waiting: dict[int, _Planned] = {}
        self._unreadable: set[int] = set()
        self.failure: UserError | None = None

    def plan(
        self, slot: int, record: int, start: int, along: float, draws: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Returns (JPEGs, region, mirrored) of a slot; stores errors, because tf.data would add a page to them."""
        slot, record = int(slot), int(record)
        example, real = self._empty, False
        if record >= 0 and record not in self._unreadable and self.failure is None:
            try:
                found = self._source.records.borrow(
                    self._source.number(record), self.spec.with_frames, bool(self.spec.features)
                )
                drawn = Draws(*draws) if len(draws) else None
                example = make_example(found, self.spec, drawn, int(start), float(along))
                real = True
            except UserError as error:  # it names the file
                self._set_aside(record, str(error))
            except ValueError as error:
                self._set_aside(record, self._describe(record, str(error)))
        self._waiting[slot] = _Planned(record, example, real)
        encoded = np.array(example.encoded, object)
        return encoded, example.region, np.array(example.mirrored)

    def take(self, slots: np.ndarray) -> tuple[list[Example], np.ndarray]:
        """Returns the kept examples of these slots, and bool [n], True for real ones; raises a stored error."""
        if self.failure is not None:
            raise self.failure
        planned = [self._waiting.pop(slot) for slot in slots.tolist()]
        return [each.example for each in planned], np.array([each.real for each in planned], bool)

    def set_undecodable_aside(self) -> None:
        """Excludes the waiting examples whose pictures TensorFlow cannot decode.

        Raises:
          UserError: more records are unreadable than may be left out, or every picture can be decoded.
        """
        waiting, self._waiting = self._waiting, {}
        before = len(self._unreadable)
        for planned in waiting.values():
            place = _first_undecodable(planned.example.encoded)
            if place is not None:
                reason = f"the frame at place {place} of {len(planned.example.encoded)} cannot be decoded"
                self._set_aside(planned.record, self._describe(planned.record, reason))
        if self.failure is not None:
            raise self.failure
        if len(self._unreadable) == before:
            raise UserError(
                f"{self._source.records.files[0].parent}: a frame cannot be decoded, unknown which."
            )

    def _describe(self, record: int, reason: str) -> str:
        return self._source.records.describe(self._source.number(record), reason)

    def _set_aside(self, record: int, told: str) -> None:
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
            print(f"note: left out ({count} of {size} so far): {told}", file=sys.stderr, flush=True)
        elif count & (count - 1) == 0:
            print(f"note: {count} of {size} records cannot be read so far", file=sys.stderr, flush=True)


class _Planned(NamedTuple):
    """The kept part of an example until its frames are decoded."""

    record: int
    example: Example
    real: bool


def _first_undecodable(encoded: list[bytes]) -> int | None:
    for place, jpeg in enumerate(encoded):
        try:
            tf.io.decode_jpeg(jpeg)
        except tf.errors.InvalidArgumentError:
            return place
    return None


def _batches(located: tf.data.Dataset, planner: _Planner, batch_size: int) -> Iterator[Batch]:
    spec, config = planner.spec, planner.spec.config
    num_frames = config.num_frames if spec.with_frames else 0
    types = [tf.string, tf.int32, tf.bool]

    def plan(slot, *place):
        jpegs, region, mirrored = tf.numpy_function(planner.plan, [slot, *place], types, stateful=False)
        return slot, tf.ensure_shape(jpegs, [num_frames]), tf.ensure_shape(region, [4]), mirrored

    parallel = {"num_parallel_calls": config.num_workers, "deterministic": True}
    dataset = located.map(plan, **parallel)
    if spec.with_frames:
        repeat = lambda x: tf.broadcast_to(x, tf.concat([[num_frames], tf.shape(x)], 0))
        dataset = dataset.map(
            lambda slot, jpegs, region, mirrored: (repeat(slot), jpegs, repeat(region), repeat(mirrored))
        )
        decode = _decoder(config.crop_size)
        dataset = dataset.unbatch().map(
            lambda slot, jpeg, region, mirrored: (slot, decode(jpeg, region, mirrored)), **parallel
        )
        dataset = dataset.batch(batch_size * num_frames, drop_remainder=True)
    else:
        dataset = dataset.map(lambda slot, *rest: (slot, tf.zeros([0]))).batch(
            batch_size, drop_remainder=True
        )
    options = tf.data.Options()
    options.threading.private_threadpool_size = config.num_workers
    for slots, frames in dataset.prefetch(2).with_options(options).as_numpy_iterator():
        examples, real = planner.take(slots[:: max(num_frames, 1)])
        yield _assemble(
            examples, real, frames.reshape(batch_size, num_frames, *frames.shape[1:]) if num_frames else None
        )


def _assemble(examples: list[Example], real: np.ndarray, frames: np.ndarray | None) -> Batch:
    stack = lambda of_each: {name: np.stack([each[name] for each in of_each]) for name in of_each[0]}
    fields: dict[str, Any] = {
        "frames": frames,
        "example_mask": real,
        "features": stack([example.features for example in examples]),
    } | stack([example.fields for example in examples])
    return Batch(**fields)


def _decoder(size: int) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns a function (JPEG, region int32 [4], mirrored) → uint8 [size, size, 3]."""

    def decode(jpeg: tf.Tensor, region: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
        # TensorFlow's default, INTEGER_FAST, is inexact by a level or two and not faster.
        part = tf.image.decode_and_crop_jpeg(jpeg, region, channels=3, dct_method="INTEGER_ACCURATE")
        fits = tf.reduce_all(tf.equal(region[2:], size))
        part = tf.cond(fits, lambda: part, lambda: _resize(part, size))
        part = tf.cond(mirrored, lambda: tf.reverse(part, [1]), lambda: part)
        return tf.ensure_shape(part, [size, size, 3])

    return decode


def _resize(picture: tf.Tensor, size: int) -> tf.Tensor:
    scaled = tf.image.resize(picture, [size, size], "bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(scaled), 0.0, 255.0), tf.uint8)
