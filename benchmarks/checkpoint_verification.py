"""Measures what it costs to verify a checkpoint: python benchmarks/checkpoint_verification.py [MEGABYTES]"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from unloc_jax.config import Config
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.training.checkpoints.metadata import read_checked
from unloc_jax.training.checkpoints.reading import compare, load_params
from unloc_jax.training.checkpoints.whole import is_whole
from unloc_jax.training.checkpoints.writing import Checkpoints
from unloc_jax.training.state import TrainState

_WIDTH, _TIMES = 1024, 5


def _seconds(action: Callable[[], object]) -> float:
    """Returns the median time of an action, after one that compiles."""
    action()
    seconds = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        jax.block_until_ready(action())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    rng, layers = np.random.default_rng(0), round(megabytes * 2**20 / 3 / 4 / _WIDTH**2)
    params = {f"layer_{i}": rng.normal(size=(_WIDTH, _WIDTH)).astype(np.float32) for i in range(layers)}
    state = jax.tree.map(jax.numpy.asarray, TrainState(np.int32(0), params, {"mu": params, "nu": params}))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    metadata = DatasetMetadata("videos", 10.0, 256, [], ["word"] * 10_000, "0").to_dict()
    with tempfile.TemporaryDirectory() as workdir:
        with Checkpoints(Path(workdir), Config(), {"moment_retrieval": metadata}) as checkpoints:
            checkpoints.save(state, 1)
        step_dir = Path(workdir) / "checkpoints" / "1"
        size = sum(file.stat().st_size for file in step_dir.rglob("*") if file.is_file())
        print(f"checkpoint of {size / 1e6:.0f} MB; seconds, median of {_TIMES}:")
        stored = read_checked(step_dir)
        opened = Checkpoints(Path(workdir), Config(), {"moment_retrieval": metadata})
        actions = {
            "metadata with its checksum": lambda: read_checked(step_dir),
            "predict reads its parameters": lambda: load_params(step_dir, shapes.params),
            "… of which fingerprints (params)": lambda: compare(stored, {"params": state.params}),
            "train reads all": lambda: opened.restore(shapes),
            "… of which fingerprints (all)": lambda: compare(stored, state),
            "is it whole? (only after damage)": lambda: is_whole(step_dir),
        }
        for name, action in actions.items():
            print(f"  {name:<34}{_seconds(action):.3f}")


if __name__ == "__main__":
    main()
