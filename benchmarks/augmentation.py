"""Times colour augmentation on the device against the host: `python benchmarks/augmentation.py`.

Prints median milliseconds per frame of 224×224 for JAX on this machine's device and for TensorFlow on its CPU: the
same operations, with new draws in every run. TensorFlow runs only the operation that is drawn; JAX runs all of them,
because the videos of a batch share no branch, but as lookup tables. The host's work is hidden behind the training step
only as long as the host keeps up. Without TensorFlow only JAX is timed.
"""

import importlib.util
import itertools
import os
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from unloc_jax.augmentation import augment
from unloc_jax.config import AugmentationConfig

RUNS = 11
SHAPE = (4, 16, 224, 224, 3)
LAYERS, COLOR, GREY = 3, 0.8, 0.1
CASES = {
    f"colour jitter {COLOR}, grey {GREY}": AugmentationConfig(color=COLOR, grey=GREY),
    f"RandAugment, {LAYERS} layers": AugmentationConfig(rand_augment_layers=LAYERS),
}


def random_frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)


def median_ms(run: Callable[[int], object]) -> float:
    """Returns the median milliseconds per frame of `run(i)`, where the run number i seeds the draws."""
    run(0)
    times = []
    for i in range(1, RUNS + 1):
        started = time.perf_counter()
        run(i)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times) / (SHAPE[0] * SHAPE[1])


def on_device(frames: np.ndarray, config: AugmentationConfig) -> float:
    augmented = jax.jit(augment, static_argnames="config")
    frames = jax.device_put(frames)
    keys = [jax.random.split(jax.random.key(i), SHAPE[0]) for i in range(RUNS + 1)]
    return median_ms(lambda i: jax.block_until_ready(augmented(frames, keys[i], config)))


def on_host(frames: np.ndarray) -> list[float]:
    """Returns the milliseconds per frame of the same cases in TensorFlow; [] if it is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        return []
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from host_augmentation import jitter, rand_augment

    def timed(function: Callable[[tf.Tensor], tf.Tensor]) -> float:
        augmented = tf.function(lambda: tf.map_fn(function, tf.constant(frames)))
        return median_ms(lambda i: augmented().numpy())

    tf.random.set_seed(0)
    return [timed(lambda video: jitter(video, COLOR, GREY)), timed(lambda video: rand_augment(video, LAYERS))]


def main() -> None:
    frames = random_frames()
    of_device, of_host = [on_device(frames, config) for config in CASES.values()], on_host(frames)
    print(
        f"frame of 224×224, median of {RUNS} runs, {os.cpu_count()} CPU cores; "
        f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, TensorFlow on the CPU"
    )
    print(f"{'':<34}{'JAX (ms)':>12}{'TF (ms)':>12}{'ratio':>8}")
    for name, device, host in itertools.zip_longest(CASES, of_device, of_host):
        cells = f"{host:>12.2f}{host / device:>8.1f}" if host else f"{'–':>12}{'–':>8}"
        print(f"{name:<34}{device:>12.2f}{cells}")


if __name__ == "__main__":
    main()
