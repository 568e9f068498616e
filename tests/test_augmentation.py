"""Colour augmentations against PIL and tf.image, and who gets which."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests import compiling
from unloc_jax.augmentation import augment
from unloc_jax.augmentation.byte_tables import (
    count_by_one_hot,
    count_by_scatter,
    histogram,
    lookup,
    lookup_by_gather,
    lookup_by_selects,
)
from unloc_jax.augmentation.color_jitter import ColorShift, draw_shift, luma, shift_colors
from unloc_jax.augmentation.operations import OPERATIONS, apply_operation
from unloc_jax.config import AugmentationConfig

REPOSITORY = Path(__file__).parents[1]

augment = jax.jit(augment, static_argnames="config")
apply_operation = jax.jit(apply_operation, static_argnames="magnitude")


def videos(num_videos: int = 1, num_frames: int = 3, height: int = 24, width: int = 36) -> np.ndarray:
    """Colour gradients that move, with noise; no channel uses its whole range, and each another part of it."""
    rng = np.random.default_rng(0)
    y, x, t = np.meshgrid(np.arange(height), np.arange(width), np.arange(num_frames), indexing="ij")
    waves = np.stack([np.sin(x / 5 + t), np.cos(y / 4 - t), np.sin((x + y) / 7)], -1) * 0.4 + 0.5
    clean = waves.transpose(2, 0, 1, 3) * [200, 120, 160] + [5, 90, 60]
    return np.clip(clean + rng.normal(0, 8, (num_videos, *clean.shape)), 0, 250).astype(np.uint8)


def keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(0), count)


def operate(video: np.ndarray, name: str, magnitude: float, center=(0.5, 0.5)) -> np.ndarray:
    """`apply_operation` by name, on [T, H, W, 3]."""
    planes, index = video.transpose(0, 3, 1, 2), jnp.int32(OPERATIONS.index(name))
    return np.asarray(
        apply_operation(planes, index, jnp.array(center), magnitude, jnp.ones(len(planes), bool))
    ).transpose(0, 2, 3, 1)


def by_pil(video: np.ndarray, name: str, factor: float, bits: int, threshold: int, added: int) -> np.ndarray:
    """The same by PIL. What depends on all pixels takes the frames as one image, one below the other."""
    if name == "identity":
        return video
    if name == "solarize_add":
        return np.where(video < 128, np.minimum(video.astype(int) + added, 255), video)
    change = {
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "invert": ImageOps.invert,
        "posterize": lambda image: ImageOps.posterize(image, bits),
        "solarize": lambda image: ImageOps.solarize(image, threshold),
        "contrast": lambda image: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda image: ImageEnhance.Brightness(image).enhance(factor),
        "color": lambda image: ImageEnhance.Color(image).enhance(factor),
        "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(factor),
    }[name]
    if name == "sharpness":
        return np.stack([np.asarray(change(Image.fromarray(frame))) for frame in video])
    return np.asarray(change(Image.fromarray(video.reshape(-1, *video.shape[2:])))).reshape(video.shape)


@pytest.mark.parametrize(
    ("magnitude", "arguments"),
    [
        # The recipes' magnitude: the reference's numbers, apart from its solarize, which overflows from 256 to 0.
        (10.0, {"factor": 1.9, "bits": 4, "threshold": 0, "added": 110}),
        (5.0, {"factor": 1.45, "bits": 6, "threshold": 128, "added": 55}),
    ],
)
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "cutout"])
def test_operations_are_those_of_pil(name, magnitude, arguments):
    video = videos()[0]
    found, expected = operate(video, name, magnitude).astype(int), by_pil(video, name, **arguments)
    assert abs(found - expected).max() <= 1  # One level, as PIL blends images that are already rounded.
    assert (abs(found - expected) == 1).mean() < (0.5 if name == "sharpness" else 0.02)
    assert name == "identity" or (found != video).mean() > 0.3


def test_frames_that_fill_up_do_not_count():
    """Nor do videos that fill up a batch: the real frames of both get the colours that they get without."""
    batch, rubbish = videos(num_videos=8, num_frames=3), videos(num_videos=9, num_frames=5)[..., ::-1].copy()
    rubbish[:8, :3] = batch
    mask = np.ones((9, 5), bool)
    mask[:8, 3:] = False
    expected = np.asarray(augment(batch, keys(8), ALL))
    found = np.asarray(augment(rubbish, keys(9), ALL, mask))[:8, :3]
    np.testing.assert_array_equal(found, expected)
    assert (np.asarray(augment(rubbish, keys(9), ALL))[:8, :3] != expected).any()


def test_hues_do_not_depend_on_how_a_program_is_compiled():
    """A program that knows its pixels computes a channel twice, with other last bits: none equals the largest then."""
    frames = np.random.default_rng(7).integers(0, 256, (2, 6, 16, 16, 3), np.uint8)
    config = AugmentationConfig(color=1.0)
    expected = np.asarray(augment(frames, keys(2), config)).astype(int)
    known = np.asarray(jax.jit(lambda: augment(frames, keys(2), config))()).astype(int)
    assert abs(known - expected).max() <= 1


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "contrast"])
def test_a_video_of_one_color(name):
    video = np.full((2, 4, 4, 3), 77, np.uint8)
    assert abs(operate(video, name, 10.0).astype(int) - 77).max() == 0


def test_cutout():
    video = videos(height=56, width=84)[0]
    expected = video.copy()
    # Half sides of 40/224: 10 rows and 15 columns, around row 28 and column 8.4.
    expected[:, 18:38, :23] = 0
    np.testing.assert_array_equal(operate(video, "cutout", 10.0, center=(0.5, 0.1)), expected)


def test_magnitude_zero_does_nothing():
    video = videos()[0]
    for name in set(OPERATIONS) - {"autocontrast", "equalize", "invert"}:
        np.testing.assert_array_equal(operate(video, name, 0.0), video, err_msg=name)


def test_every_platform_counts_and_looks_up_the_same():
    video = videos()[0].transpose(0, 3, 1, 2)
    frame = video[0]
    counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in frame])
    for count in (count_by_one_hot, count_by_scatter):
        np.testing.assert_array_equal(count(jnp.asarray(frame)), counts)
    assert histogram(jnp.asarray(video), jnp.ones(len(video), bool)).sum() == video.size

    tables = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint8)
    expected = np.stack([table[plane] for table, plane in zip(tables, frame)])
    for look in (lookup_by_selects, lookup_by_gather, lookup):
        np.testing.assert_array_equal(look(jnp.asarray(frame), jnp.asarray(tables)), expected)


EXTREME_SHIFTS = [
    (-32 / 255, 1.4, 0.6, 0.2),
    (32 / 255, 0.6, 1.4, -0.2),
    (0.1, 1.3, 1.2, 0.17),
    (-0.12, 1.4, 1.4, -0.1),
]


@pytest.mark.slow
def test_color_shifts_are_those_of_tf_image():
    tf = pytest.importorskip("tensorflow")
    frame = videos()[0, 0]
    # Where hue or saturation do not exist, or two channels are equally large.
    frame[0, :8] = [
        [0, 0, 0],
        [255, 255, 255],
        [90, 90, 90],
        [255, 0, 0],
        [0, 255, 255],
        [9, 9, 0],
        [0, 7, 7],
        [3, 0, 3],
    ]
    pixels = frame.astype(np.float32) / 255
    for brightness, saturation, contrast, hue in EXTREME_SHIFTS:
        expected = tf.image.adjust_brightness(pixels, brightness)
        expected = tf.image.adjust_saturation(expected, saturation)
        expected = tf.image.adjust_contrast(expected, contrast)
        expected = tf.clip_by_value(tf.image.adjust_hue(expected, hue), 0.0, 1.0)
        found = shift_colors(pixels.transpose(2, 0, 1), ColorShift(brightness, saturation, contrast, hue))
        np.testing.assert_allclose(found.transpose(1, 2, 0), expected, atol=1e-5)
        assert abs(expected - pixels).numpy().mean() > 0.1
    greyscale = tf.image.rgb_to_grayscale(pixels)[..., 0]
    np.testing.assert_allclose(luma(pixels.transpose(2, 0, 1)), greyscale, atol=1e-6)


def test_color_shifts_fill_their_ranges():
    shifts = np.stack(jax.vmap(draw_shift)(keys(2000)), 1)
    low, high = np.array([[-32 / 255, 0.6, 0.6, -0.2], [32 / 255, 1.4, 1.4, 0.2]])
    assert (shifts >= low).all() and (shifts < high).all()
    np.testing.assert_allclose(
        shifts.mean(0), (low + high) / 2, atol=5 * (high - low).max() / 12**0.5 / 2000**0.5
    )
    np.testing.assert_allclose(np.corrcoef(shifts.T), np.eye(4), atol=5 / 2000**0.5)


ALL = AugmentationConfig(color=1.0, grey=0.3, rand_augment_layers=2)


def test_one_draw_for_all_frames_of_a_video_and_another_for_each_video():
    frame = videos(num_frames=1, height=8, width=8)
    # More frames than are worked on at once, and no multiple of them.
    found = np.asarray(augment(np.tile(frame, (16, 11, 1, 1, 1)), keys(16), ALL))
    assert found.dtype == np.uint8 and found.shape == (16, 11, 8, 8, 3)
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1], found.shape))
    assert len(np.unique(found[:, 0], axis=0)) > 12


def test_a_key_decides_whatever_its_place_in_the_batch():
    batch, batch_keys = videos(num_videos=16, num_frames=11, height=8, width=8), keys(16)
    found = np.asarray(augment(batch, batch_keys, ALL))
    order = np.random.default_rng(0).permutation(16)
    np.testing.assert_array_equal(augment(batch[order], batch_keys[order], ALL), found[order])


def test_chances():
    batch = videos(num_videos=400, num_frames=1, height=4, width=4)
    apply = functools.partial(augment, batch, keys(400))

    def share(found: jax.Array) -> float:
        return float((np.asarray(found) != batch).any((1, 2, 3, 4)).mean())

    is_grey = lambda found: (np.ptp(np.asarray(found), axis=-1) == 0).all((1, 2, 3))

    assert share(apply(AugmentationConfig())) == 0
    assert share(apply(AugmentationConfig(color=1.0))) == 1
    assert is_grey(apply(AugmentationConfig(grey=1.0))).all()
    four_sigma = 4 * 0.5 / 400**0.5
    assert share(apply(AugmentationConfig(color=0.4))) == pytest.approx(0.4, abs=four_sigma)
    both = apply(AugmentationConfig(color=0.5, grey=0.4))
    assert is_grey(both).mean() == pytest.approx(0.4, abs=four_sigma)
    assert share(both) == pytest.approx(1 - 0.5 * 0.6, abs=four_sigma)


def test_rand_augment_draws_all_operations_equally_often():
    batch = np.tile(videos(num_frames=2, height=16, width=16), (1200, 1, 1, 1, 1))
    # At 5, no two operations do the same to this video.
    config = AugmentationConfig(rand_augment_layers=1, rand_augment_magnitude=5.0)
    found = np.asarray(augment(batch, keys(1200), config)).astype(int)
    counts = {}
    for name in OPERATIONS:
        if name != "cutout":
            difference = abs(found - operate(batch[0], name, 5.0))
            counts[name] = int((difference.max((1, 2, 3, 4)) <= 1).sum())
    # Cutout's boxes lie everywhere: these are the rest, and outside their boxes nothing changes.
    counts["cutout"] = int(
        ((found != batch).any((1, 2, 3, 4)) & ((found == batch) | (found == 0)).all((1, 2, 3, 4))).sum()
    )
    assert sum(counts.values()) == 1200
    assert all(abs(count - 100) < 5 * 100**0.5 for count in counts.values()), counts


def test_rand_augment_draws_every_layer_for_itself():
    batch = np.tile(videos(num_frames=2, height=8, width=8), (600, 1, 1, 1, 1))
    config = AugmentationConfig(rand_augment_layers=2, rand_augment_magnitude=5.0)
    found = np.asarray(augment(batch, keys(600), config))
    # Eleven operations without a place make ten pairs of the same and over a hundred of different ones.
    assert len(np.unique(found.reshape(600, -1), axis=0)) > 60
    assert 0 < (found == batch).all((1, 2, 3, 4)).sum() < 600 / 12


def test_only_bytes():
    with pytest.raises(TypeError, match="frames are float32"):
        augment(np.zeros((1, 1, 4, 4, 3), np.float32), keys(1), ALL)


def augment_sharded() -> np.ndarray:
    """All of it with one video on each device, which must not talk to each other."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.P("data"))
    batch, batch_keys = jax.device_put((videos(num_videos=8), keys(8)), sharding)
    compiled = augment.lower(batch, batch_keys, ALL).compile()
    program = compiled.as_text()
    assert not [name for name in ("all-gather", "all-reduce", "all-to-all", "permute") if name in program]
    found = compiled(batch, batch_keys)
    assert found.sharding.is_equivalent_to(sharding, found.ndim)
    assert len(found.addressable_shards) == 8
    return np.asarray(found)


@pytest.mark.slow
def test_eight_devices_augment_like_one(tmp_path):
    program = (
        "import sys, numpy; from tests.test_augmentation import augment_sharded; "
        "numpy.save(sys.argv[1], augment_sharded())"
    )
    environment = os.environ | {
        "XLA_FLAGS": f"{compiling.devices(8)} {compiling.QUICKLY}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(REPOSITORY),
    }
    out = tmp_path / "found.npy"
    done = subprocess.run(
        [sys.executable, "-c", program, out], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = np.asarray(augment(videos(num_videos=8), keys(8), ALL)).astype(int)
    difference = abs(np.load(out) - expected)
    # Equal except for roundings that later operations can enlarge.
    assert (difference > 0).mean() < 0.01 and difference.max() <= 16
