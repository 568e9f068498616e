import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.metrics.references import GOLDENS
from unloc_jax.metrics.tiou import pairwise_segment_iou, segment_iou

times = st.integers(-50, 50).map(float)
segments = st.tuples(times, times)


def test_by_hand():
    a = [[0, 10], [0, 10], [0, 10], [0, 10], [2, 4]]
    b = [[0, 10], [5, 15], [10, 20], [12, 20], [0, 10]]
    np.testing.assert_array_equal(segment_iou(a, b), [1, 5 / 15, 0, 0, 2 / 10])


def test_empty_and_reversed_segments_overlap_nothing():
    a = [[3, 3], [3, 3], [8, 2], [8, 2], [-2, -2]]
    b = [[3, 3], [0, 9], [0, 9], [8, 2], [-2, -2]]
    np.testing.assert_array_equal(segment_iou(a, b), 0)


def test_broadcasts_and_makes_pairs():
    a, b = np.sort(np.random.default_rng(0).random((2, 5, 3, 2)), axis=-1)
    assert segment_iou(a[:, :1], b).shape == (5, 3)
    pairs = pairwise_segment_iou(a, b)
    assert pairs.shape == (5, 3, 3)
    assert pairs[4, 2, 1] == segment_iou(a[4, 2], b[4, 1]) > 0


@given(segments, segments, times)
def test_symmetric_bounded_and_independent_of_the_origin(a, b, shift):
    iou = segment_iou(a, b)
    assert 0 <= iou <= 1
    assert iou == segment_iou(b, a) == segment_iou(np.add(a, shift), np.add(b, shift))
    assert (iou == 1) == (a == b and a[0] < a[1])


def test_equals_the_reference():
    # The reference's segments are distances to the left and to the right of a point. Some are negative there:
    # points outside of the segment, for which its loss defines an IoU below 0 that is not an overlap of segments.
    pred, truth = GOLDENS["iou/pred"], GOLDENS["iou/gt"]
    inside = (pred > 0).all(axis=1) & (truth > 0).all(axis=1)
    assert inside.sum() == 34
    to_segments = np.array([-1, 1])
    iou = segment_iou(pred[inside] * to_segments, truth[inside] * to_segments)
    np.testing.assert_allclose(iou, GOLDENS["iou/expected"][inside], rtol=1e-6)


def test_metrics_need_numpy_alone():
    program = """
import importlib, pkgutil, sys
import unloc_jax.metrics
for module in pkgutil.walk_packages(unloc_jax.metrics.__path__, "unloc_jax.metrics."):
    importlib.import_module(module.name)
assert "unloc_jax.metrics.protocols.run" in sys.modules
sys.exit(", ".join({"jax", "tensorflow", "scipy", "pandas"} & set(sys.modules)) or 0)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
