"""One training step of every task, on one device and on eight that are pretended; run as a separate program.

python -m tests.training.parallel_cases OUT.json [all]
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests import compiling

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = f"{compiling.devices(8)} {compiling.QUICKLY}"
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import optax

from tests.tiny import SOUND, VIDEOPRISM, random_batch, random_params, tiny_metadata, tiny_task
from unloc_jax.config import Config, MeshConfig, from_mapping, to_json
from unloc_jax.tasks import Task, make_task
from unloc_jax.tasks.predict_split import to_device
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import batch_sharding, lay_out, make_mesh, tree_shardings
from unloc_jax.training.state import TrainState
from unloc_jax.training.step import Loss, make_train_step

SGD = {
    "optimizer": {"name": "sgd", "momentum": 0.9, "max_grad_norm": None, "weight_decay": 0.0},
    "train": {"steps": 10, "learning_rate": 0.1, "schedule": "constant"},
}
FPN = {
    "fusion": {"width": 16, "num_layers": 2, "num_heads": 2, "mlp_dim": 32, "all_text_tokens": True},
    "pyramid": {"type": "fpn", "num_levels": 2},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "moment_retrieval": ("moment_retrieval", {"model": FPN}),
    "batch_negatives": ("moment_retrieval", {"loss": {"negatives": "batch"}, "model": {"text_chunk": 5}}),
    "localization": (
        "temporal_action_localization",
        {"model": {"text_chunk": 2, "head": {"num_conv_layers": 1, "offsets_per_text": False}}},
    ),
    "segmentation": (
        "action_segmentation",
        {"model": {"pyramid": {"type": "none"}, "head": {"type": "linear"}, "remat": "full"}},
    ),
    "highlights": ("highlight_detection", {"model": {"fusion": {"type": "late"}}}),
    "classification": ("classification", {}),
    "many_frames": (
        "action_segmentation",
        {
            "data": {"num_frames": 64, "crop_size": 64, "max_segments": 3},
            "model": {"pyramid": {"type": "none"}, "head": {"type": "linear"}, "remat": "full"},
        },
    ),
    "contrastive": ("video_text_contrastive", {}),
    "videoprism": ("moment_retrieval", {"model": {**VIDEOPRISM, "remat": "full", "frame_chunk": 4}}),
    "sound": (
        "moment_retrieval",
        {
            "data": {
                "num_frames": 8, "crop_size": 16, "max_segments": 3, "max_queries": 3,
                "augmentation": {
                    "audio": {"gain_db": 6.0, "mix": 0.9, "frequency_masks": 1, "time_masks": 2, "time_mask_s": 0.03}
                },
            },
            "model": {
                "audio": {**SOUND["audio"], "subtract_mean": True},
                "modalities": {"audio": {"encoder": "audio"}, "rgb": {}}, "remat": "dots", "frame_chunk": 2,
            },
        },
    ),
    "contrastive_stage": (
        "moment_retrieval", {"contrastive": {"steps": 10, "learning_rate": 0.1, "schedule": "constant"}}
    ),
}  # fmt: skip
KINDS = (*VARIANTS, "multitask")

# (kind, videos, accumulate, strategy, (data, context, model)): every strategy and axis and the kinds of losses, with
# fewer videos than devices and with parts of batches. `all` has the rest.
CASES = [
    ("moment_retrieval", 2, 1, "fsdp", (2, 4, 1)),
    ("batch_negatives", 4, 2, "fsdp_tp", (2, 2, 2)),
    ("multitask", 2, 2, "dp", (1, 8, 1)),
    ("contrastive", 4, 1, "tp", (4, 1, 2)),
    ("many_frames", 2, 1, "dp", (1, 4, 1)),
    ("videoprism", 4, 1, "fsdp_tp", (2, 2, 2)),
    ("videoprism", 4, 1, "fsdp", (4, 2, 1)),
    ("sound", 4, 2, "fsdp_tp", (2, 2, 2)),
    ("sound", 4, 1, "dp", (4, 2, 1)),
]


def tasks_of(kind: str, strategy: str, videos: int, accumulate: int) -> dict[str, Task]:
    common = {"mesh": {"strategy": strategy}, "batch_size": videos, "accumulate": accumulate, **SGD}
    if kind != "multitask":
        task, changes = VARIANTS[kind]
        return {"task": tiny_task(task, **common, **changes)}
    whole = from_mapping(
        {
            **_nested(tiny_task(**common).config),
            "task_mixing": "all",
            "tasks": {
                "a": {"weight": 0.5, "task": "temporal_action_localization"},
                "b": {"task": "classification"},
            },
        }
    )
    return {name: make_task(view, tiny_metadata(), whole) for name, view in whole.task_configs.items()}


def _nested(config: Config) -> dict[str, Any]:
    values = json.loads(to_json(config))
    return {key: values[key] for key in values if key not in ("tasks", "init_from")}


def uneven_batch(task: Task, videos: int, seed: int) -> Any:
    """Rows differ in how much counts, so that a mean of means would be another number."""
    batch = random_batch(task.config, seed, videos)
    rng = np.random.default_rng(seed)
    batch.frame_mask[:, 3:] = rng.uniform(size=batch.frame_mask[:, 3:].shape) < 0.8
    batch.segment_text[1:, -1] = -1
    if batch.text_mask.size:
        batch.text_mask[1:, -1] = False
    batch.example_mask[-1] = videos < 3
    return batch


def one_step(
    kind: str, videos: int, accumulate: int, strategy: str, sizes: tuple[int, int, int]
) -> tuple[dict[str, np.ndarray], int]:
    """Metrics, gradients and parameters after one step, and the bytes that each device needed on the way."""
    tasks = tasks_of(kind, strategy, videos, accumulate)
    config = next(iter(tasks.values())).config
    devices = jax.devices()[: int(np.prod(sizes))]
    mesh = make_mesh(MeshConfig(*sizes, strategy), videos, devices=devices)
    tasks = {name: lay_out(task, mesh) for name, task in tasks.items()}
    first = next(iter(tasks.values()))
    optimizer = make_optimizer(config)
    params = random_params(first)
    state = TrainState(np.zeros((), np.int32), params, optimizer.init(params))
    shardings = tree_shardings(state, mesh, strategy)
    state = jax.device_put(state, shardings)
    stage = "contrastive" if kind == "contrastive_stage" else "train"
    weights = {name: 1.0 + i for i, name in enumerate(tasks)}
    loss = Loss(tasks, weights, stage)
    step = make_train_step(loss, optimizer, mesh, shardings, seed=0, accumulate=accumulate)
    batches = {
        name: to_device(uneven_batch(task, videos, seed), batch_sharding(mesh))
        for seed, (name, task) in enumerate(tasks.items())
    }
    compiled = step.lower(state, batches, {}).compile()
    state, metrics = compiled(state, batches, {})
    trees = {"metrics": metrics, "params": state.params, "gradients": _traces(state.opt_state)}
    leaves = jax.tree_util.tree_leaves_with_path(trees)
    numbers = {jax.tree_util.keystr(path): np.asarray(leaf, np.float32) for path, leaf in leaves}
    return numbers, compiled.memory_analysis().temp_size_in_bytes


def _traces(opt_state: Any) -> Any:
    return optax.tree_utils.tree_get(opt_state, "trace")


def error(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """The largest difference as a share of the largest number of its kind (metrics one by one), and whose it is."""
    assert set(found) == set(expected)
    gradients = max(abs(x).max() for name, x in expected.items() if name.startswith("['gradients']"))
    worst = (0.0, "")
    for name, value in expected.items():
        scale = gradients if name.startswith("['gradients']") else max(abs(value).max(), 1e-3)
        assert np.isfinite(found[name]).all(), name
        worst = max(worst, (float(abs(found[name] - value).max() / scale), name))
    return worst


def all_cases() -> Iterator[tuple]:
    meshes = {
        "dp": [(8, 1, 1), (2, 4, 1), (1, 8, 1)],
        "fsdp": [(8, 1, 1), (2, 4, 1), (1, 8, 1)],
        "tp": [(4, 1, 2), (1, 4, 2), (2, 2, 2)],
        "fsdp_tp": [(4, 1, 2), (1, 4, 2), (2, 2, 2)],
    }
    for kind in KINDS:
        if kind not in ("contrastive", "contrastive_stage"):
            yield kind, 4, 2, "dp", (1, 1, 1)
            yield kind, 4, 2, "fsdp_tp", (2, 2, 2)
        for strategy, of_strategy in meshes.items():
            for sizes in of_strategy:
                yield kind, max(2, sizes[0]), 1, strategy, sizes


def main() -> None:
    results, single = [], {}
    for case in all_cases() if sys.argv[2:] == ["all"] else CASES:
        kind, videos, *_ = case
        started = time.process_time()
        if (kind, videos) not in single:
            single[kind, videos] = one_step(kind, videos, 1, "dp", (1, 1, 1))
        between = time.process_time()
        (expected, of_one), (found, of_eight) = single[kind, videos], one_step(*case)
        off, name = error(found, expected)
        seconds = [between - started, time.process_time() - between]
        memory = {"temporaries_of_one": of_one, "temporaries": of_eight}
        results.append({"case": case, "error": off, "where": name, "loss": _losses(expected), **memory})
        print(*case, f"{off:.1e}", name, [f"{s:.1f} s" for s in seconds], memory, flush=True)
    with open(sys.argv[1], "w") as file:
        json.dump(results, file)


def _losses(numbers: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(x) for name, x in numbers.items() if "loss" in name}


if __name__ == "__main__":
    main()
