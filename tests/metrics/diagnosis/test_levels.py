"""The level responsible for a segment is that of the training targets."""

import jax.numpy as jnp
import numpy as np
import pytest

from unloc_jax.errors import UserError
from unloc_jax.localization.geometry import pyramid_geometry
from unloc_jax.localization.targets import assign_targets
from unloc_jax.metrics.diagnosis.level_section import Produced, Segments, level_section
from unloc_jax.metrics.diagnosis.levels import Pyramid, points_of_levels, read_pyramid


@pytest.mark.parametrize("radius", [None, 1.5])
@pytest.mark.parametrize("step_s", [None, 0.5])
def test_points_as_in_training(radius, step_s):
    rng = np.random.default_rng(0)
    geometry = pyramid_geometry(32, 4, 2)
    duration_s = rng.uniform(20, 200, 50)
    start = np.round(rng.uniform(0, 0.6, 50) * duration_s, 1)
    segments_s = np.stack([start, start + np.round(rng.uniform(0, 0.35, 50) * duration_s, 1)], axis=1)
    if step_s is not None:  # of one window, from 0 s on
        segments_s = segments_s * 15.5 / 200
    pyramid = Pyramid(geometry, radius, step_s)
    counts = points_of_levels(pyramid, segments_s, duration_s)

    grid = segments_s / pyramid.steps_s(duration_s)[:, None]
    if step_s is not None:  # a window starts at a multiple of the widest stride
        grid -= grid[:, :1] // 8 * 8
    targets = assign_targets(
        jnp.asarray(grid[:, None], jnp.float32), jnp.zeros((50, 1), jnp.int32), 1, geometry, radius
    )
    expected = np.stack(
        [level.sum(axis=(1, 2)) for level in geometry.split_levels(np.asarray(targets.relevance), 2)], axis=1
    )
    np.testing.assert_array_equal(counts, expected)
    assert (counts.argmax(axis=1) > 0).any()


def test_section():
    """100 short segments that nothing finds and 100 long ones that level 2 finds, in 128 frames of 127 s."""
    segments_s = np.array([[10.2, 10.8]] * 100 + [[20.0, 34.0]] * 100)
    segments = Segments(segments_s, np.full(200, 127.0), np.arange(200), np.arange(200) >= 100)
    produced = Produced(np.full(100, 2), np.zeros(100, int), ("hit", "background"), np.arange(100, 200))
    pyramid = Pyramid(pyramid_geometry(128, 4, 2), None, None)
    section = level_section(segments, produced, pyramid)
    made, responsible = section.tables
    assert made.rows == [[2, 100, 100, 100.0, 0.0]]
    rows = {row[0]: dict(zip(responsible.columns, row)) for row in responsible.rows}
    assert rows["none"]["segments"] == 100
    assert rows["none"]["found %"] == 0
    # Level 2 (8 to 16 frames) has its points at 20, 24, 28 and 32: the larger distances are 14, 10, 8, 12. Level 1's
    # range ends below 8: only point 27 is that near to both ends, and it has none there.
    assert rows[2]["segments"] == 100
    assert rows[2]["points"] == 4
    assert (rows[2]["found %"], rows[2]["found by it %"]) == (100, 100)
    assert section.readings[0].startswith(
        "No point of the pyramid is responsible for 100 of 200 segments (50.0 %)"
    )
    assert "half of them shorter than 0.6 s; frames are 1 s apart" in section.readings[0]
    assert section.readings[1] == "Levels 0, 1, 3 are responsible for 0 of 200 segments."
    assert level_section(segments, None, None) is None


@pytest.mark.slow
def test_pyramid_of_a_checkpoint(trained):
    pyramid = read_pyramid(trained)
    assert pyramid.geometry == pyramid_geometry(8, 2, 2)
    assert (pyramid.radius, pyramid.step_s) == (3.0, None)
    assert pyramid.steps_s(np.array([14.0])) == [2.0], "8 frames in 14 s"
    with pytest.raises(UserError, match="--task=x: the checkpoint has moment_retrieval"):
        read_pyramid(trained, "x")
