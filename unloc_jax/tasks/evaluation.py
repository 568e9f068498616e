"""One path for evaluation during training and from a checkpoint: device batches → Found."""

from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from unloc_jax.batch import Batch
from unloc_jax.errors import UserError
from unloc_jax.localization.decode import Detections
from unloc_jax.tasks.base import Found, Params, Task
from unloc_jax.text import tokenize

DetectFn = Callable[[Params, Batch, jax.Array], tuple[Detections, jax.Array]]


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
      task: gives L.
      detect: `jax.jit(task.detect)`; kept by the caller so that it compiles once.
      params: the model's parameters.
      batches: evaluation batches in the order of `texts`, rows with example_mask False at the end.
      texts: the texts of each video.
      sharding: of batches.
      progress: wraps the iterator, for a progress bar.

    Returns:
      Found, rows beyond the real videos and texts removed.

    Raises:
      UserError: more than one process.
    """
    if jax.process_count() > 1:
        raise UserError("evaluation runs on one process today; start it without jax.distributed.")
    width = max(len(of_video) for of_video in texts)
    max_tokens = task.config.model.text.max_tokens
    tokens = np.zeros((len(texts), width, max_tokens), np.int32)
    for row, of_video in zip(tokens, texts):
        row[: len(of_video)] = tokenize(of_video, max_tokens)
    shared = all(of_video is texts[0] for of_video in texts)

    segments, scores, done = [], [], 0
    for batch in progress(batches):
        device_batch = to_device(batch, sharding)
        rows = np.minimum(np.arange(done, done + len(batch.example_mask)), len(texts) - 1)
        text_tokens = jnp.asarray(tokens[:1]) if shared else jax.device_put(tokens[rows], sharding)
        found, _ = detect(params, device_batch, text_tokens)
        segments_batch, scores_batch = jax.device_get((found.segments_s, found.scores))
        for segments_row, scores_row in zip(segments_batch[: batch.example_mask.sum()], scores_batch):
            segments.append(segments_row[: len(texts[done])])
            scores.append(scores_row[: len(texts[done])])
            done += 1
    return Found([list(of_video) for of_video in texts], segments, scores)
