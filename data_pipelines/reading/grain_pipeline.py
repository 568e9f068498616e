"""Makes batches from TFRecord shards with Grain, without TensorFlow.

The batches are those of `input_pipeline.py`, also where a run is resumed: to the last bit, except that pictures which
are scaled may differ by a level. An element is one example with its decoded frames.
"""

import contextlib
import io
from collections.abc import Generator
from typing import NamedTuple

import numpy as np
import simplejpeg
from absl import logging
from PIL import Image

from data_pipelines.reading.example import Example
from data_pipelines.reading.planner import Planner, assemble
from data_pipelines.reading.rows import Rows, Source, evaluation_rows, training_rows
from unloc_jax.batch import Batch

logging.set_verbosity(logging.ERROR)  # Grain reports features that it misses in earlier versions of JAX
import grain  # noqa: E402


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
    """Yields batches start_step … num_steps-1 of a run; see `input_pipeline.training_batches`.

    Raises:
      UserError: more than config.data.max_unreadable of the records are unreadable.
    """
    rows = training_rows(
        source,
        seed=seed,
        batch_size=batch_size,
        start_step=start_step,
        num_steps=num_steps,
        host=host,
        num_hosts=num_hosts,
    )
    return _batches(rows, Planner(source, tolerance=source.spec.config.max_unreadable))


def evaluation_batches(
    source: Source, *, batch_size: int, crops: int = 1, host: int = 0, num_hosts: int = 1
) -> Generator[Batch, None, None]:
    """Yields every row of `source.evaluation_rows` once, in order; see `input_pipeline.evaluation_batches`.

    Raises:
      UserError: a record is unreadable.
    """
    rows = evaluation_rows(source, batch_size=batch_size, crops=crops, host=host, num_hosts=num_hosts)
    return _batches(rows, Planner(source, tolerance=0.0))


class _Row(NamedTuple):
    example: Example
    real: bool
    frames: np.ndarray | None  # uint8 [T, H, W, 3]


class _DecodedRows:
    """The rows with their frames, as Grain's random-access source."""

    def __init__(self, rows: Rows, planner: Planner):
        self._rows = rows
        self._planner = planner

    def __len__(self) -> int:
        return self._rows.end - self._rows.first

    def __getitem__(self, i: int) -> _Row:
        place = self._rows.place(self._rows.first + int(i))
        example, real = self._planner.plan(place)
        if not self._planner.spec.with_frames:
            return _Row(example, real, None)
        size = self._planner.spec.config.crop_size
        try:
            return _Row(example, real, _decode(example, size))
        except ValueError as error:
            self._planner.exclude(place.record, str(error))
            example, real = self._planner.empty
            return _Row(example, real, _decode(example, size))


def _batches(rows: Rows, planner: Planner) -> Generator[Batch, None, None]:
    workers = planner.spec.config.num_workers
    ahead = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=max(2 * rows.per_batch, workers))
    dataset = grain.MapDataset.source(_DecodedRows(rows, planner)).to_iter_dataset(ahead)
    batch: list[_Row] = []
    # Closing ends what is still being decoded, for a consumer that stops early.
    with contextlib.closing(iter(dataset)) as decoded:
        for row in decoded:
            batch.append(row)
            if len(batch) < rows.per_batch:
                continue
            if planner.failure is not None:
                raise planner.failure
            examples, real, frames = zip(*batch)
            batch = []
            with_frames = planner.spec.with_frames
            yield assemble(list(examples), list(real), np.stack(frames) if with_frames else None)


def _decode(example: Example, size: int) -> np.ndarray:
    """Decodes the planned frames, uint8 [T, size, size, 3].

    Raises:
      ValueError: one of them cannot be decoded.
    """
    frames = np.empty((len(example.encoded), size, size, 3), np.uint8)
    top, left, height, width = example.region.tolist()
    picture: np.ndarray | None = None
    for place, jpeg in enumerate(example.encoded):
        try:
            picture = _decode_jpeg(jpeg, picture)
            part = picture[top : top + height, left : left + width]
            if part.shape[:2] != (height, width):
                raise ValueError("smaller than the first frame")
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"the frame at place {place} of {len(example.encoded)} cannot be decoded"
            ) from error
        if (height, width) != (size, size):
            part = np.asarray(Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR))
        frames[place] = part[:, ::-1] if example.mirrored else part
    return frames


def _decode_jpeg(jpeg: bytes, buffer: np.ndarray | None) -> np.ndarray:
    """Decodes a picture, uint8 [H, W, 3], exactly and without Python's lock, so that threads share the work.

    Overwrites `buffer`, the picture before, if it has the room: new memory costs a tenth of decoding.
    """
    try:
        return simplejpeg.decode_jpeg(jpeg, "RGB", fastdct=False, fastupsample=False, buffer=buffer)
    except ValueError:  # larger, of four colours, or with a blemish that the other libraries do not mind
        return np.array(Image.open(io.BytesIO(jpeg), formats=["JPEG"]).convert("RGB"))
