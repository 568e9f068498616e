"""Localizer: a checkpoint and a video file → where each text happens. Needs neither the dataset nor TensorFlow."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax import config as config_lib
from unloc_jax.batch import Batch
from unloc_jax.dataset import DatasetFacts
from unloc_jax.errors import UserError
from unloc_jax.inference.frames import SampledFrames, look_at_video
from unloc_jax.inference.predictions import Segment, TextPrediction, VideoPrediction
from unloc_jax.tasks import Task, make_task
from unloc_jax.tasks.windows import WindowOutput, merge_windows
from unloc_jax.text import num_tokens, words
from unloc_jax.training.checkpoints import find_checkpoint, load_checkpoint, load_params, workdir_of
from unloc_jax.training.sharding import make_mesh, tree_shardings
from unloc_jax.training.state import abstract_params


@dataclasses.dataclass
class LoadedModel:
    """What a checkpoint directory holds, ready to run on the devices that are here.

    Attributes:
      step_dir: the directory it came from.
      task: with the model and the config.
      params: the parameters.
      facts: of the dataset that the task was trained on.
      task_name: which of the checkpoint's tasks it is.
      mesh: over all devices.
    """

    step_dir: Path
    task: Task
    params: Any
    facts: DatasetFacts
    mesh: jax.sharding.Mesh
    task_name: str


# Settings that evaluation may change: they change what is asked of a model, not the model.
_FREE = ("evaluation.", "data.evaluation_windows", "data.window_overlap", "data.num_workers")


def load_model(checkpoint: Path, task_name: str | None = None, overrides: Sequence[str] = ()) -> LoadedModel:
    """Restores a checkpoint for evaluation or prediction; nothing but the directory is needed.

    Args:
      checkpoint: a workdir, or one step's directory.
      task_name: of a checkpoint with several tasks, the one that is wanted; None = the first.
      overrides: "KEY=VALUE" strings that change how it is evaluated.

    Raises:
      UserError: no checkpoint there, a damaged one, or no such task in it; an override of anything else.
    """
    step_dir = find_checkpoint(checkpoint)
    whole, facts = load_checkpoint(step_dir)
    views = whole.task_configs
    task_name = task_name or next(iter(views))
    if task_name not in views:
        raise UserError(f"--task={task_name}: the tasks of {step_dir} are {', '.join(views)}.")
    config = views[task_name]
    for override in overrides:
        if not override.startswith(_FREE):
            free = ", ".join(f"config.{key}" for key in _FREE)
            raise UserError(f"--config.{override}: of a trained model only {free} can change.")
    if overrides:
        config = config_lib.with_overrides(json.loads(config_lib.to_json(config)), overrides)
    # The mesh of training may not fit the devices that are here; evaluation only splits videos, in batches of
    # at least one per device, and every device has all parameters.
    devices = jax.device_count()
    batch_size = -(-config.evaluation.batch_size // devices) * devices
    config = dataclasses.replace(
        config,
        mesh=dataclasses.replace(config.mesh, data=-1, context=1, model=1, strategy="dp"),
        evaluation=dataclasses.replace(config.evaluation, batch_size=batch_size),
    )
    mesh = make_mesh(config.mesh, batch_size)
    task = make_task(config, facts[task_name], whole)
    abstract = abstract_params(task)
    shardings = tree_shardings(abstract, mesh, config.mesh.strategy)
    abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings
    )
    return LoadedModel(step_dir, task, load_params(step_dir, abstract), facts[task_name], mesh, task_name)


class Localizer:
    """Finds texts in video files.

    Args:
      model: as `load_model` returns it.
    """

    def __init__(self, model: LoadedModel):
        # A file is looked at once: its middle.
        config = model.task.config
        config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, crops=1))
        self._model = model = dataclasses.replace(model, task=dataclasses.replace(model.task, config=config))
        self._detect = jax.jit(model.task.detect)

    def __call__(self, video: Path, texts: Sequence[str]) -> VideoPrediction:
        """Segments and relevance curve of every text.

        Args:
          video: any file that PyAV decodes.
          texts: sentences; for a model with a vocabulary they may be any words as well, () = its classes.

        Raises:
          UserError: no or empty texts, or a video that cannot be used.
        """
        texts = list(texts) or list(self._model.task.evaluation_classes)
        if not texts:
            raise UserError('--text is needed: what to look for, such as --text="a person sits down".')
        empty = [i for i, text in enumerate(texts, 1) if not words(text)]
        if empty:
            raise UserError(f"--text number {empty[0]} has no words: {texts[empty[0] - 1]!r}.")
        config, facts = self._model.task.config, self._model.facts
        if any(name != "rgb" or m.encoder != "clip" for name, m in config.model.modalities.items()):
            raise UserError("this model reads precomputed features; it cannot look at a video file.")
        for text in texts:
            if num_tokens(text) > config.model.text.max_tokens:
                print(
                    f"note: the model reads {config.model.text.max_tokens - 2} word pieces of a text; the end of "
                    f"{text!r} is left out",
                    file=sys.stderr,
                )
        task = self._model.task
        encoded = task.encoding(texts)[None]
        windows: list[WindowOutput] = []
        duration_s = 0.0
        for seen in look_at_video(video, fps=facts.fps, short_side=facts.short_side, data=config.data):
            output = jax.device_get(self._detect(self._model.params, _batch_of(seen), encoded))
            windows.append(WindowOutput(output, seen.span_s, seen.mask))
            duration_s = seen.duration_s
        output, span_s = windows[0].output, windows[0].span_s
        if config.data.windowed:
            output, span_s = merge_windows(windows, config.evaluation)
        places = config.data.num_frames if output.curve is None else output.curve.shape[-1]
        times_s = np.linspace(span_s[0], span_s[1], places)
        flat = np.ones_like(times_s)  # of a task without a curve
        known = set(facts.words)
        predictions = [
            TextPrediction(
                text=text,
                segments=[
                    Segment(float(start), float(end), float(score))
                    for (start, end), score in zip(segments, scores)
                ],
                relevance_times_s=times_s,
                relevance=output.curve[0, i] if output.curve is not None else scores[0] * flat,
                unknown_words=[word for word in words(text) if known and word not in known],
            )
            for i, (text, (segments, scores)) in enumerate(zip(texts, task.segments(output, 0, span_s)))
        ]
        return VideoPrediction(str(video), duration_s, predictions, self.describe())

    def describe(self) -> dict[str, str]:
        """Facts about the model to show with its predictions; names only, no folders."""
        config = self._model.task.config
        step_dir = self._model.step_dir
        facts = {
            "checkpoint": f"{workdir_of(step_dir).name}, step {step_dir.name}",
            "trained on": Path(config.data.dir).name,
            "sees": f"{config.data.num_frames} frames of {config.data.crop_size}×{config.data.crop_size}",
        }
        return facts | _measured(self._model.step_dir)


def _batch_of(seen: SampledFrames) -> Batch:
    """One video without texts or segments."""
    return Batch(
        frames=jnp.asarray(seen.frames)[None],
        frame_mask=jnp.asarray(seen.mask)[None],
        text_tokens=jnp.zeros((1, 0, 1), jnp.int32),
        text_mask=jnp.zeros((1, 0), bool),
        segments=jnp.zeros((1, 0, 2), jnp.float32),
        segment_text=jnp.zeros((1, 0), jnp.int32),
        span_s=jnp.asarray(seen.span_s)[None],
        example_mask=jnp.ones((1,), bool),
    )


def _measured(step_dir: Path) -> dict[str, str]:
    """What `unloc evaluate` found out about this checkpoint, if it was run: how far to trust it, and where not."""
    file = workdir_of(step_dir) / "evaluation" / "test" / "metrics.json"
    try:
        metrics = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if metrics.get("checkpoint") != str(step_dir):
        return {}
    facts = {}
    if "recall" in metrics:
        facts["best segment right (IoU ≥ 0.5)"] = (
            f"{metrics['recall']['model']['R1@0.5']:.0f} % of test queries"
        )
        for attribute, value in metrics["right_event"]["differs_only_in"].items():
            if value["count"]:
                facts[f"only {attribute} differs"] = (
                    f"{value['rate']:.0f} % right (chance {value['chance']:.0f} %)"
                )
    if "mAP" in metrics:
        facts |= {f"test {name}": f"{value:.1f} %" for name, value in metrics["mAP"].items() if ":" in name}
    return facts
