"""One path for evaluation during training and from a checkpoint: device batches → Found."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from unloc_jax.batch import Batch
from unloc_jax.errors import UserError
from unloc_jax.tasks.base import Found, Output, Params, Task

DetectFn = Callable[[Params, Batch, jax.Array], Output]


def to_device(batch: Batch, sharding: NamedSharding) -> Batch:
    """This host's rows → one global batch, split by video."""
    hosts = jax.process_count()
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x, (len(x) * hosts, *x.shape[1:])), batch
    )


def find(
    task: Task,
    detect: DetectFn,
    params: Params,
    batches: Iterable[Batch],
    texts: Sequence[Sequence[str]],
    sharding: NamedSharding,
    progress: Callable[[Iterable[Batch]], Iterable[Batch]] = lambda x: x,
) -> Found:
    """Searches every video of a split for its texts.

    Args:
      task: the task.
      detect: `task.detect`, jitted.
      params: the model's parameters.
      batches: as `Dataset.evaluation_batches` yields them.
      texts: per record, in the order of the batches; one list for all where all entries are the same object.
      sharding: of batches.
      progress: wraps the batches, to show a bar.

    Returns:
      Found with the padding of videos and texts removed.

    Raises:
      UserError: more than one process.
    """
    if jax.process_count() > 1:
        raise UserError("evaluation runs on one process today; start it without jax.distributed.")
    shared = all(of_video is texts[0] for of_video in texts)
    width = max(len(of_video) for of_video in texts)
    encoded = np.tile(task.encoding.padding(), (1 if shared else len(texts), width, 1, 1))
    for row, of_video in zip(encoded, texts):
        row[: len(of_video)] = task.encoding(of_video)

    found = Found([list(of_video) for of_video in texts])
    for batch in progress(batches):
        first = len(found.spans_s)
        rows = np.minimum(np.arange(first, first + len(batch.example_mask)), len(texts) - 1)
        on_device = jnp.asarray(encoded) if shared else jax.device_put(encoded[rows], sharding)
        output: Any = jax.device_get(detect(params, to_device(batch, sharding), on_device))
        for i in range(int(batch.example_mask.sum())):
            _keep(found, output, i, np.asarray(batch.span_s[i]), len(texts[first + i]), task.keeps_curves)
    return found


def _keep(found: Found, output: Any, row: int, span_s: np.ndarray, num_texts: int, curves: bool) -> None:
    """Adds one video of a batch."""
    found.spans_s.append(span_s)
    if output.detections is not None:
        found.segments_s.append(output.detections.segments_s[row, :num_texts])
        found.scores.append(output.detections.scores[row, :num_texts])
    if curves and output.curve is not None:
        found.curves.append(output.curve[row, :num_texts])
    if output.frame_classes is not None:
        found.frame_classes.append(output.frame_classes[row])
    if output.video_scores is not None:
        found.video_scores.append(output.video_scores[row, :num_texts])
