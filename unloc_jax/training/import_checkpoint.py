"""Implements `unloc import`: converts another program's checkpoint for `evaluate`, `predict` and `train`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.errors import UserError
from unloc_jax.pretrained import scenic_config, scenic_source, scenic_unloc
from unloc_jax.tasks.parameters import count_parameters
from unloc_jax.training.checkpoints.writing import Checkpoints
from unloc_jax.training.ema import start_average
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import make_mesh, tree_shardings
from unloc_jax.training.state import TrainState
from unloc_jax.training.workdir_lock import WorkdirLock


def import_scenic_unloc(
    source: Path,
    reference_config: Path,
    out: Path,
    *,
    overrides: Iterable[str] = (),
    classes: Path | None = None,
    log: Callable[[str], None] = print,
) -> Config:
    """Writes a checkpoint of step 0 with the parameters of a Scenic UnLoc checkpoint.

    Args:
      source: See `scenic_source.read_params`.
      reference_config: See `scenic_source.read_config`.
      out: The workdir to write.
      overrides: "KEY=VALUE" settings of ours that replace those of the reference's config, such as
        "data.num_frames=64"; embeddings are adapted to them.
      classes: Text file with one class name per line, in the order of the reference's labels; needed by a task with a
        vocabulary.
      log: Called with messages about what was read and adapted.

    Returns:
      The config of the checkpoint.

    Raises:
      UserError: Files cannot be read, parameters do not fit the config, or `out` already holds a checkpoint.
    """
    reference, settings = scenic_source.read_params(source), scenic_source.read_config(reference_config)
    config = config_lib.with_overrides(scenic_config.to_config(settings, reference), overrides)
    params, report = scenic_unloc.to_params(reference, config)
    log(f"{source}: {len(reference)} arrays, {count_parameters(params) / 1e6:.1f} M parameters")
    for line in report:
        log(f"  {line}")

    mesh = make_mesh(config.mesh, config.batch_size)
    dataset_metadata = DatasetMetadata(
        name="scenic-unloc",
        **_stored_frames(settings, config),
        classes=_read_classes(classes, config),
        words=[],
        fingerprint="",
    )
    with WorkdirLock(out, log, setting="--out"):
        metadata = {name: dataset_metadata.to_dict() for name in config.task_configs}
        checkpoints = Checkpoints(out, config, metadata)
        if checkpoints.latest_step is not None:
            raise UserError(f"--out={out} already holds a checkpoint. Choose another folder, or delete it.")
        state = TrainState(
            jnp.zeros((), jnp.int32),
            params,
            make_optimizer(config).init(params),
            start_average(config, params),
        )
        shardings = tree_shardings(state, mesh, config.mesh.strategy)
        checkpoints.save(jax.device_put(state, shardings), 0)
        checkpoints.close()
    log(f"wrote {out}")
    return config


def _stored_frames(settings: dict[str, Any], config: Config) -> dict[str, Any]:
    """Returns how the reference stored the frames of its training videos: fps, and short_side in pixels."""
    data = settings.get("dataset_configs", {})
    modalities = (data.get("modality_configs") or {}).values()
    sides = [group["min_resize"] for group in modalities if "min_resize" in group]
    step_s = data.get("secs_per_timestep") or 0.1
    return {"fps": 1.0 / step_s, "short_side": int(sides[0]) if sides else config.data.crop_size}


def _read_classes(file: Path | None, config: Config) -> list[str]:
    if not config.with_vocabulary:
        return []
    if file is None:
        raise UserError(
            f"--classes is needed: a text file with the class names of this {config.task.replace('_', ' ')} model, one "
            "per line, in the order of its labels."
        )
    names = [line.strip() for line in file.read_text("utf-8").splitlines()]
    empty = [number for number, name in enumerate(names, 1) if not name]
    if empty or not names:
        raise UserError(f"{file}: line {empty[0] if empty else 1} is empty; write one class name per line.")
    return names
