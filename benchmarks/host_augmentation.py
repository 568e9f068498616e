"""Colour augmentation with TensorFlow on the host, which `augmentation.py` compares with."""

import tensorflow as tf

from unloc_jax.augmentation.color_jitter import CONTRAST, MAX_BRIGHTNESS, MAX_HUE, SATURATION
from unloc_jax.augmentation.operations import OPERATIONS


def jitter(video: tf.Tensor, color: float, grey: float) -> tf.Tensor:
    """Applies colour jitter and greyscale to one video, uint8 [T, H, W, 3], with tf.image."""

    def shifted() -> tf.Tensor:
        pixels = tf.image.random_brightness(tf.cast(video, tf.float32) / 255, MAX_BRIGHTNESS)
        pixels = tf.image.random_saturation(pixels, *SATURATION)
        pixels = tf.image.random_contrast(pixels, *CONTRAST)
        pixels = tf.clip_by_value(tf.image.random_hue(pixels, MAX_HUE), 0.0, 1.0)
        return tf.cast(tf.round(255 * pixels), tf.uint8)

    result = tf.cond(tf.random.uniform(()) < color, shifted, lambda: video)
    greyed = lambda: tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(result))
    return tf.cond(tf.random.uniform(()) < grey, greyed, lambda: result)


def operation(video: tf.Tensor, name: str) -> tf.Tensor:
    """Applies one RandAugment operation at magnitude 10 to one video, uint8 [T, 224, 224, 3]."""
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


def rand_augment(video: tf.Tensor, layers: int) -> tf.Tensor:
    shape = video.shape
    for _ in range(layers):
        drawn = tf.random.uniform((), maxval=len(OPERATIONS), dtype=tf.int32)
        branches = [lambda name=name, video=video: operation(video, name) for name in OPERATIONS]
        video = tf.ensure_shape(tf.switch_case(drawn, branches), shape)
    return video
