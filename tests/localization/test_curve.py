import numpy as np
import pytest

from unloc_jax.localization.decode import frame_curve
from unloc_jax.localization.geometry import pyramid_geometry


@pytest.mark.parametrize("num_frames", [8, 7, 5])
def test_a_frame_has_the_best_score_of_the_points_that_cover_it(num_frames):
    geometry = pyramid_geometry(num_frames, 3, 2)
    scores = np.random.default_rng(0).random((2, 3, geometry.num_points)).astype(np.float32)
    expected = np.zeros((2, 3, num_frames), np.float32)
    for point, (first, stride) in enumerate(zip(geometry.positions, geometry.strides)):
        for frame in range(int(first), min(int(first + stride), num_frames)):
            expected[..., frame] = np.maximum(expected[..., frame], scores[..., point])
    np.testing.assert_array_equal(frame_curve(scores, geometry), expected)
