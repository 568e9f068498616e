"""Makes batches from TFRecord shards with tf.data; `grain_pipeline.py` makes the same ones without TensorFlow.

Records are read by random access; `example.py` plans an example, and only the planned frames are decoded, each as a
separate element, which keeps all threads busy.
"""

import contextlib
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from typing import NamedTuple

import numpy as np

from data_pipelines.quiet_tensorflow import import_tensorflow
from data_pipelines.reading.example import Example
from data_pipelines.reading.planner import Planner, assemble
from data_pipelines.reading.rows import Rows, Source, evaluation_rows, training_rows
from unloc_jax.batch import Batch
from unloc_jax.errors import UserError

import_tensorflow()
import tensorflow as tf  # noqa: E402  only after it has been silenced


def training_batches(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    start_step: int,
    num_steps: int,
    host: int = 0,
    num_hosts: int = 1,
) -> Generator[Batch, None, None]:
    """Yields batches start_step … num_steps-1 of a run; this host's part of each (batch_size / num_hosts videos).

    An unreadable record becomes a row whose example_mask is False, and is reported.

    Raises:
      UserError: more than config.data.max_unreadable of the records are unreadable.
    """
    planner = _Waiting(source, tolerance=source.spec.config.max_unreadable)
    while True:
        rows = training_rows(
            source,
            seed=seed,
            batch_size=batch_size,
            start_step=start_step,
            num_steps=num_steps,
            host=host,
            num_hosts=num_hosts,
        )
        try:
            with contextlib.closing(_batches(rows, planner)) as batches:
                for batch in batches:
                    start_step += 1
                    yield batch
        except tf.errors.InvalidArgumentError:
            # A picture was whole but could not be decoded: exclude its record and repeat the batch.
            planner.exclude_undecodable()
        else:
            return


def evaluation_batches(
    source: Source, *, batch_size: int, crops: int = 1, host: int = 0, num_hosts: int = 1
) -> Generator[Batch, None, None]:
    """Yields every row of `source.evaluation_rows` once, in order; masked rows fill up the last batch.

    With several crops a row becomes `crops` consecutive rows, from one end of the longer side to the other, and a batch
    has batch_size · crops rows.

    Raises:
      UserError: a record is unreadable.
    """
    planner = _Waiting(source, tolerance=0.0)
    rows = evaluation_rows(source, batch_size=batch_size, crops=crops, host=host, num_hosts=num_hosts)
    try:
        yield from _batches(rows, planner)
    except tf.errors.InvalidArgumentError:
        planner.exclude_undecodable()
        raise AssertionError("a picture could not be decoded, but now it can") from None


class _Waiting(Planner):
    """Keeps everything except for the pictures outside of tf.data, until a batch is complete."""

    def __init__(self, source: Source, tolerance: float):
        super().__init__(source, tolerance)
        self._where = source.records
        self._waiting: dict[int, _Planned] = {}

    def plan_row(self, rows: Rows, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns (JPEGs, region, mirrored) of a row."""
        place = rows.place(int(row))
        example, real = self.plan(place)
        self._waiting[int(row)] = _Planned(place.record, example, real)
        encoded = np.array(example.encoded, object)
        return encoded, example.region, np.array(example.mirrored)

    def take(self, rows: np.ndarray) -> tuple[list[Example], list[bool]]:
        """Returns the kept examples of these rows, and which of them are real; raises a stored error."""
        if self.failure is not None:
            raise self.failure
        planned = [self._waiting.pop(row) for row in rows.tolist()]
        return [each.example for each in planned], [each.real for each in planned]

    def exclude_undecodable(self) -> None:
        """Excludes the waiting examples whose pictures TensorFlow cannot decode.

        Raises:
          UserError: more records are unreadable than may be left out, or every picture can be decoded.
        """
        waiting, self._waiting = self._waiting, {}
        before = self.num_unreadable
        for planned in waiting.values():
            place = _first_undecodable(planned.example)
            if place is not None:
                count = len(planned.example.encoded)
                self.exclude(planned.record, f"the frame at place {place} of {count} cannot be decoded")
        if self.failure is not None:
            raise self.failure
        if self.num_unreadable == before:
            raise UserError(f"{self._where.files[0].parent}: a frame cannot be decoded, unknown which.")


class _Planned(NamedTuple):
    """The kept part of an example until its frames are decoded."""

    record: int
    example: Example
    real: bool


def _first_undecodable(example: Example) -> int | None:
    for place, jpeg in enumerate(example.encoded):
        try:
            tf.image.decode_and_crop_jpeg(jpeg, example.region)
        except tf.errors.InvalidArgumentError:
            return place
    return None


def _batches(rows: Rows, planner: _Waiting) -> Generator[Batch, None, None]:
    spec, config, batch_size = planner.spec, planner.spec.config, rows.per_batch
    num_frames = config.num_frames if spec.with_frames else 0
    types = [tf.string, tf.int32, tf.bool]
    closed = threading.Event()
    latest: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def plan_row(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if closed.is_set() and latest:
            return latest[0]  # nobody takes it any more; an error here would be printed by TensorFlow
        planned = planner.plan_row(rows, int(row))
        latest[:] = [planned]
        return planned

    def plan(row):
        planned = tf.numpy_function(plan_row, [row], types, stateful=False)
        jpegs, region, mirrored = planned
        return row, tf.ensure_shape(jpegs, [num_frames]), tf.ensure_shape(region, [4]), mirrored

    parallel = {"num_parallel_calls": config.num_workers, "deterministic": True}
    dataset = tf.data.Dataset.range(rows.first, rows.end).map(plan, **parallel)
    if spec.with_frames:
        repeat = lambda x: tf.broadcast_to(x, tf.concat([[num_frames], tf.shape(x)], 0))
        dataset = dataset.map(
            lambda row, jpegs, region, mirrored: (repeat(row), jpegs, repeat(region), repeat(mirrored))
        )
        decode = _decoder(config.crop_size)
        dataset = dataset.unbatch().map(
            lambda row, jpeg, region, mirrored: (row, decode(jpeg, region, mirrored)), **parallel
        )
        dataset = dataset.batch(batch_size * num_frames, drop_remainder=True)
    else:
        dataset = dataset.map(lambda row, *rest: (row, tf.zeros([0]))).batch(batch_size, drop_remainder=True)
    options = tf.data.Options()
    options.threading.private_threadpool_size = config.num_workers
    elements = dataset.prefetch(2).with_options(options).as_numpy_iterator()
    try:
        for numbers, frames in elements:
            examples, real = planner.take(numbers[:: max(num_frames, 1)])
            shape = (batch_size, num_frames, *frames.shape[1:])
            yield assemble(examples, real, frames.reshape(shape) if num_frames else None)
    finally:
        # If TensorFlow's threads still call plan_row when Python ends, the process aborts or hangs. The destructor of
        # the iterator waits for them; so it must not be left to Python's end.
        closed.set()
        del elements
        _clear_frames(sys.exception())


def _clear_frames(error: BaseException | None) -> None:
    """Drops the local variables of an error's finished frames, which would keep alive what they refer to."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


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
