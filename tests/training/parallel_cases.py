"""One training step of every task, on one device and on eight that are pretended; run as a program of its own.

python -m tests.training.parallel_cases OUT.json [all]
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

if __name__ == "__main__":
    # What is not optimised is compiled in half the time.
    os.environ["XLA_FLAGS"] = (
        "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true"
    )
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import optax

from tests.tiny import random_batch, random_params, tiny_facts, tiny_task
from unloc_jax.config import MeshConfig, from_mapping
from unloc_jax.tasks import Task, make_task
from unloc_jax.tasks.evaluation import to_device
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import batch_sharding, lay_out, make_mesh, tree_shardings
from unloc_jax.training.state import TrainState
from unloc_jax.training.step import make_loss, make_train_step

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
    "contrastive": ("video_text_contrastive", {}),
    "pretraining": ("moment_retrieval", {"pretrain": {"steps": 10, "learning_rate": 0.1, "schedule": "constant"}}),
}  # fmt: skip
KINDS = (*VARIANTS, "multitask")

# (kind, videos, accumulate, strategy, (data, context, model)): every task, every strategy, every axis; also fewer
# videos than devices.
CASES = [
    ("moment_retrieval", 2, 1, "dp", (2, 4, 1)),
    ("moment_retrieval", 2, 1, "fsdp", (2, 4, 1)),
    ("moment_retrieval", 2, 1, "tp", (2, 2, 2)),
    ("batch_negatives", 4, 1, "fsdp_tp", (2, 2, 2)),
    ("localization", 2, 1, "fsdp", (1, 8, 1)),
    ("segmentation", 4, 1, "fsdp_tp", (2, 2, 2)),
    ("highlights", 8, 1, "tp", (4, 1, 2)),
    ("classification", 4, 1, "fsdp", (2, 4, 1)),
    ("contrastive", 4, 1, "tp", (1, 4, 2)),
    ("pretraining", 8, 1, "dp", (8, 1, 1)),
    ("multitask", 4, 1, "fsdp_tp", (2, 2, 2)),
]


def tasks_of(kind: str, strategy: str) -> dict[str, Task]:
    if kind != "multitask":
        task, changes = VARIANTS[kind]
        return {"task": tiny_task(task, mesh={"strategy": strategy}, **SGD, **changes)}
    whole = from_mapping(
        {
            **_nested(tiny_task(mesh={"strategy": strategy}, **SGD).config),
            "task_mixing": "all",
            "tasks": {
                "a": {"weight": 2.0},
                "b": {"weight": 0.5, "task": "temporal_action_localization"},
            },
        }
    )
    return {name: make_task(view, tiny_facts(), whole) for name, view in whole.task_configs.items()}


def _nested(config: Any) -> dict[str, Any]:
    from unloc_jax.config import to_json

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
) -> dict[str, np.ndarray]:
    """Metrics, gradients and parameters after one step."""
    tasks = tasks_of(kind, strategy)
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
    stage = "pretrain" if kind == "pretraining" else "train"
    weights = {name: 1.0 + i for i, name in enumerate(tasks)}
    step = make_train_step(make_loss(tasks, weights, stage), optimizer, mesh, shardings, seed=0)
    batches = {
        name: to_device(uneven_batch(task, videos, seed), batch_sharding(mesh))
        for seed, (name, task) in enumerate(tasks.items())
    }
    state, metrics = step(state, batches, {})
    trees = {"metrics": metrics, "params": state.params, "gradients": _traces(state.opt_state)}
    leaves = jax.tree_util.tree_leaves_with_path(trees)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


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
        for strategy, of_strategy in meshes.items():
            for sizes in of_strategy:
                yield kind, max(2, sizes[0]), 1, strategy, sizes


def main() -> None:
    results, single = [], {}
    for case in all_cases() if sys.argv[2:] == ["all"] else CASES:
        kind, videos, *_ = case
        started = time.monotonic()
        if (kind, videos) not in single:
            single[kind, videos] = one_step(kind, videos, 1, "dp", (1, 1, 1))
        between = time.monotonic()
        off, name = error(one_step(*case), single[kind, videos])
        seconds = [between - started, time.monotonic() - between]
        results.append({"case": case, "error": off, "where": name, "loss": _losses(single[kind, videos])})
        print(*case, f"{off:.1e}", name, [f"{s:.1f} s" for s in seconds], flush=True)
    with open(sys.argv[1], "w") as file:
        json.dump(results, file)


def _losses(numbers: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(x) for name, x in numbers.items() if "loss" in name}


if __name__ == "__main__":
    main()
