"""tf.data: TFRecord shards → batches, as a function of (seed, step) alone.

Batch `step` holds the examples of slots step·B … step·B + B-1. A slot names its epoch and its place in that
epoch's permutation, so any step can be reproduced on any number of hosts, and resuming needs a number, not an
iterator dump. Records are read by random access (`RecordIndex`); only the sampled frames are decoded.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np

from data_pipelines.mirror import mirror_text
from data_pipelines.quiet_tensorflow import import_tensorflow
from data_pipelines.record_index import RecordIndex
from unloc_jax.batch import Batch
from unloc_jax.config import DataConfig
from unloc_jax.errors import UserError
from unloc_jax.sampling import linspace_indices, seconds_to_grid, span_of
from unloc_jax.text import tokenize

import_tensorflow()
import tensorflow as tf  # noqa: E402  only after it has been made quiet


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of one dataset, and how its texts are meant.

    Attributes:
      index: random access to the records.
      config: sampling, crop and padding sizes.
      max_tokens: L.
      classes: the vocabulary if `segment_text` indexes it (action localisation); None if every video has
        its own queries.
      rows: int64 [n], the records that are used, in order; None = all.
    """

    index: RecordIndex
    config: DataConfig
    max_tokens: int
    classes: list[str] | None
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.index) if self.rows is None else len(self.rows)

    def read(self, i: int) -> bytes:
        """The i-th used record."""
        return self.index.read(i if self.rows is None else int(self.rows[i]))


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
    """Batches start_step … num_steps-1 of a run; this host's part of each (batch_size / num_hosts videos)."""
    size, per_host = len(source), batch_size // num_hosts

    def locate(i):
        step, row = i // per_host, i % per_host
        slot = step * batch_size + host * per_host + row
        epoch, position = slot // size, slot % size
        record = tf.random.experimental.index_shuffle(position, seed=[seed, epoch], max_index=size - 1)
        return record, slot, tf.constant(True)

    slots = tf.data.Dataset.range(start_step * per_host, num_steps * per_host)
    yield from _batches(slots.map(locate), source, per_host, seed, training=True)


def evaluation_batches(
    source: Source, *, batch_size: int, host: int = 0, num_hosts: int = 1
) -> Iterator[Batch]:
    """Every record once, in order; the last batch is filled up with rows whose example_mask is False."""
    size, per_host = len(source), batch_size // num_hosts
    num_batches = -(-size // batch_size)

    def locate(i):
        slot = (i // per_host) * batch_size + host * per_host + i % per_host
        return tf.minimum(slot, size - 1), slot, slot < size

    slots = tf.data.Dataset.range(num_batches * per_host)
    yield from _batches(slots.map(locate), source, per_host, seed=0, training=False)


def _batches(
    located: tf.data.Dataset, source: Source, batch_size: int, seed: int, training: bool
) -> Iterator[Batch]:
    damaged: list[UserError] = []

    def read(i):
        # An exception inside tf.data would come out as a page of TensorFlow's: the stream ends here instead.
        try:
            return source.read(i), True
        except UserError as error:
            damaged.append(error)
            return b"", False

    fetch = lambda i, *rest: (*tf.numpy_function(read, [i], [tf.string, tf.bool], stateful=False), *rest)
    load = functools.partial(_load, source=source, seed=seed, training=training)
    parallel = {"num_parallel_calls": source.config.num_workers, "deterministic": True}
    dataset = located.map(fetch, **parallel).take_while(lambda serialized, whole, *rest: whole)
    dataset = dataset.map(lambda serialized, whole, *rest: load(serialized, *rest), **parallel)
    dataset = dataset.batch(batch_size, drop_remainder=True).prefetch(2)
    options = tf.data.Options()
    options.threading.private_threadpool_size = source.config.num_workers
    for fields in dataset.with_options(options).as_numpy_iterator():
        yield Batch(**fields)
    if damaged:
        raise damaged[0]


def _load(serialized, slot, real, *, source: Source, seed: int, training: bool) -> dict[str, tf.Tensor]:
    """One example: parse, plan, decode only the planned frames."""
    config = source.config
    example = tf.io.parse_single_example(
        serialized,
        {
            "frames": tf.io.VarLenFeature(tf.string),
            "fps": tf.io.FixedLenFeature([], tf.float32),
            "segments_s": tf.io.VarLenFeature(tf.float32),
            "texts": tf.io.VarLenFeature(tf.string),
        },
    )
    encoded = example["frames"].values
    # [seed, slot] keys everything random about this example.
    uniform = tf.random.stateless_uniform([5], seed=[seed, tf.cast(slot, tf.int32)])
    plan: Callable = functools.partial(
        _plan, config=config, max_tokens=source.max_tokens, classes=source.classes
    )
    shapes = {
        "indices": ([config.num_frames], tf.int64),
        "text_tokens": ([_num_queries(source), source.max_tokens], tf.int32),
        "text_mask": ([_num_queries(source)], tf.bool),
        "segments": ([config.max_segments, 2], tf.float32),
        "segment_text": ([config.max_segments], tf.int32),
        "span_s": ([2], tf.float32),
    }
    mirror = (uniform[0] < 0.5) if training and config.mirror else tf.constant(False)
    planned = tf.numpy_function(
        plan,
        [
            tf.size(encoded),
            example["fps"],
            example["segments_s"].values,
            example["texts"].values,
            mirror,
            uniform[1],
            uniform[4],
        ],
        [dtype for _, dtype in shapes.values()],
        stateful=False,
    )
    fields = {name: tf.ensure_shape(x, shape) for x, (name, (shape, _)) in zip(planned, shapes.items())}
    corner = uniform[2:4] if training else None
    frames = _decode(tf.gather(encoded, fields.pop("indices")), config.crop_size, corner)
    return {
        "frames": tf.cond(mirror, lambda: tf.reverse(frames, [2]), lambda: frames),
        "frame_mask": tf.ones([config.num_frames], tf.bool),
        "example_mask": real,
        **fields,
    }


def _num_queries(source: Source) -> int:
    return 0 if source.classes is not None else source.config.max_queries


def _decode(encoded: tf.Tensor, size: int, corner: tf.Tensor | None) -> tf.Tensor:
    """JPEGs [T] → uint8 [T, size, size, 3]; one window for all frames: at `corner` in [0, 1)² of the room, or central.

    Central is `unloc_jax.sampling.center_crop`.
    """
    room = tf.image.extract_jpeg_shape(encoded[0])[:2] - size
    if corner is None:
        top, left = tf.unstack(room // 2)
    else:
        top, left = tf.unstack(tf.cast(corner * tf.cast(room + 1, tf.float32), tf.int32))
    window = tf.stack([top, left, size, size])
    # TensorFlow's default, INTEGER_FAST, is off by a level or two and not faster.
    crop = lambda jpeg: tf.image.decode_and_crop_jpeg(jpeg, window, channels=3, dct_method="INTEGER_ACCURATE")
    frames = tf.map_fn(crop, encoded, fn_output_signature=tf.uint8)
    return tf.ensure_shape(frames, [encoded.shape[0], size, size, 3])


def _plan(
    num_stored: int,
    fps: float,
    segments_s: np.ndarray,
    texts: np.ndarray,
    mirror: bool,
    uniform: float,
    prompt: float,
    *,
    config: DataConfig,
    max_tokens: int,
    classes: list[str] | None,
) -> tuple[np.ndarray, ...]:
    """Frame indices and padded targets of one example; frames and labels share this one decision."""
    span_s = span_of(num_stored, fps)
    grid = seconds_to_grid(segments_s.reshape(-1, 2), span_s, config.num_frames)
    names = [text.decode() for text in texts]
    if mirror:
        names = [mirror_text(name) for name in names]
    if classes is None:
        queries = list(dict.fromkeys(names))
        # More queries than fit: a random window of them (cyclic), another one in every epoch.
        first = int(uniform * len(queries)) if len(queries) > config.max_queries else 0
        queries = (queries[first:] + queries[:first])[: config.max_queries]
        text_tokens = np.zeros((config.max_queries, max_tokens), np.int32)
        template = config.prompts[int(prompt * len(config.prompts))]
        filled = [template.replace("{}", query) for query in queries]
        text_tokens[: len(queries)] = tokenize(filled, max_tokens)
        text_mask = np.arange(config.max_queries) < len(queries)
    else:
        queries = classes
        text_tokens, text_mask = np.zeros((0, max_tokens), np.int32), np.zeros((0,), bool)
    number = {query: i for i, query in enumerate(queries)}
    kept = [i for i, name in enumerate(names) if name in number]
    first = int(uniform * len(kept)) if len(kept) > config.max_segments else 0
    kept = (kept[first:] + kept[:first])[: config.max_segments]
    if classes is None:  # a query without its segment would be trained as happening nowhere
        text_mask &= np.isin(np.arange(config.max_queries), [number[names[i]] for i in kept])
    segments = np.zeros((config.max_segments, 2), np.float32)
    segment_text = np.full((config.max_segments,), -1, np.int32)
    segments[: len(kept)] = grid[kept]
    segment_text[: len(kept)] = [number[names[i]] for i in kept]
    return (
        linspace_indices(num_stored, config.num_frames),
        text_tokens,
        text_mask,
        segments,
        segment_text,
        span_s,
    )
