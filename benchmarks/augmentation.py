"""What colour augmentation costs on the device, next to the host: `python benchmarks/augmentation.py`.

Median milliseconds per frame of 224×224, on this machine's device by JAX and on its CPU by TensorFlow, the same
operations with new draws in every run. TensorFlow runs the one operation that is drawn; JAX, on a device, all of them
(its videos share no branch), but as tables. What TensorFlow computes on the host, a training step does not wait for
only as long as the host keeps up.
"""

import os
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf

from unloc_jax.augmentation import augment
from unloc_jax.augmentation.color_jitter import CONTRAST, MAX_BRIGHTNESS, MAX_HUE, SATURATION
from unloc_jax.augmentation.operations import OPERATIONS
from unloc_jax.data_config import AugmentationConfig

RUNS = 11
SHAPE = (4, 16, 224, 224, 3)
LAYERS, COLOR, GREY = 3, 0.8, 0.1


def host_jitter(video: tf.Tensor) -> tf.Tensor:
    """Colour jitter and grey of one video, by tf.image."""

    def shifted() -> tf.Tensor:
        pixels = tf.image.random_brightness(tf.cast(video, tf.float32) / 255, MAX_BRIGHTNESS)
        pixels = tf.image.random_saturation(pixels, *SATURATION)
        pixels = tf.image.random_contrast(pixels, *CONTRAST)
        pixels = tf.clip_by_value(tf.image.random_hue(pixels, MAX_HUE), 0.0, 1.0)
        return tf.cast(tf.round(255 * pixels), tf.uint8)

    result = tf.cond(tf.random.uniform(()) < COLOR, shifted, lambda: video)
    greyed = lambda: tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(result))
    return tf.cond(tf.random.uniform(()) < GREY, greyed, lambda: result)


def host_operation(video: tf.Tensor, name: str) -> tf.Tensor:
    """One operation of RandAugment at magnitude 10 on one video."""
    pixels = tf.cast(video, tf.float32)

    def blend(start: tf.Tensor | float) -> tf.Tensor:
        return tf.cast(tf.clip_by_value(start + 1.9 * (pixels - start), 0.0, 255.0), tf.uint8)

    if name == "autocontrast":
        low, high = tf.reduce_min(pixels, (0, 1, 2)), tf.reduce_max(pixels, (0, 1, 2))
        return tf.cast((pixels - low) * 255 / tf.maximum(high - low, 1), tf.uint8)
    if name == "equalize":
        channels = []
        for channel in tf.unstack(tf.cast(video, tf.int32), axis=-1):
            counts = tf.math.bincount(tf.reshape(channel, [-1]), minlength=256)
            step = tf.maximum((tf.size(channel) - counts[tf.reduce_max(channel)]) // 255, 1)
            table = tf.minimum((tf.cumsum(counts, exclusive=True) + step // 2) // step, 255)
            channels.append(tf.gather(tf.cast(table, tf.uint8), channel))
        return tf.stack(channels, -1)
    if name == "color":
        return blend(tf.image.rgb_to_grayscale(pixels))
    if name == "sharpness":
        kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32)[:, :, None, None] / 13
        kernel = tf.tile(kernel, [1, 1, 3, 1])
        return blend(tf.nn.depthwise_conv2d(pixels, kernel, (1, 1, 1, 1), "SAME"))
    if name == "cutout":
        rows, columns = tf.range(224)[:, None, None], tf.range(224)[:, None]
        y, x = tf.unstack(tf.random.uniform((2,), maxval=224, dtype=tf.int32))
        return tf.where((abs(rows - y) < 40) & (abs(columns - x) < 40), tf.zeros_like(video), video)
    return {
        "identity": lambda: tf.identity(video),
        "invert": lambda: 255 - video,
        "posterize": lambda: tf.bitwise.bitwise_and(video, 0xF0),
        "solarize": lambda: 255 - video,
        "solarize_add": lambda: tf.where(
            video < 128, tf.cast(tf.minimum(pixels + 110, 255), tf.uint8), video
        ),
        "contrast": lambda: blend(tf.reduce_mean(tf.image.rgb_to_grayscale(pixels))),
        "brightness": lambda: blend(0.0),
    }[name]()


def host_rand_augment(video: tf.Tensor) -> tf.Tensor:
    for _ in range(LAYERS):
        drawn = tf.random.uniform((), maxval=len(OPERATIONS), dtype=tf.int32)
        branches = [lambda name=name, video=video: host_operation(video, name) for name in OPERATIONS]
        video = tf.ensure_shape(tf.switch_case(drawn, branches), SHAPE[1:])
    return video


def median_ms(run: Callable[[int], object]) -> float:
    """Median milliseconds per frame; the number of the run decides the draws."""
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


def on_host(frames: np.ndarray, function: Callable[[tf.Tensor], tf.Tensor]) -> float:
    frames = tf.constant(frames)
    augmented = tf.function(lambda: tf.map_fn(function, frames))
    return median_ms(lambda i: augmented().numpy())


def main() -> None:
    frames = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    tf.random.set_seed(0)
    pairs = {
        f"colour jitter {COLOR}, grey {GREY}": (
            on_device(frames, AugmentationConfig(color=COLOR, grey=GREY)),
            on_host(frames, host_jitter),
        ),
        f"RandAugment, {LAYERS} layers": (
            on_device(frames, AugmentationConfig(rand_augment_layers=LAYERS)),
            on_host(frames, host_rand_augment),
        ),
    }
    print(
        f"frame of 224×224, median of {RUNS} runs, {os.cpu_count()} CPU cores; "
        f"JAX {jax.__version__} on {jax.devices()[0].device_kind}, TensorFlow {tf.__version__} on the CPU"
    )
    print(f"{'':<34}{'JAX (ms)':>12}{'TF (ms)':>12}{'ratio':>8}")
    for name, (device, host) in pairs.items():
        print(f"{name:<34}{device:>12.2f}{host:>12.2f}{host / device:>8.1f}")


if __name__ == "__main__":
    main()
