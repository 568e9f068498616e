import numpy as np
import pytest

from unloc_jax.metrics.segmentation import frame_accuracy


def test_by_hand():
    scores = np.array([[2.0, 1.0], [1.0, 2.0], [-1.0, -2.0], [-1.0, -2.0], [0.0, -1.0], [0.5, -1.0]])
    labels = np.array([[1, 0], [1, 0], [0, 0], [1, 0], [0, 0], [0, 0]])
    # Right, wrong class, background, missed, background at the threshold, false alarm.
    assert frame_accuracy(scores, labels) == pytest.approx(3 / 6)
    assert frame_accuracy(scores, labels, 0.5) == pytest.approx(4 / 6)
    assert frame_accuracy(scores, labels, -1.5) == pytest.approx(2 / 6)


def test_any_of_several_classes_is_right():
    labels = np.array([[True, True, False]])
    found = [frame_accuracy(np.eye(3)[[best]], labels) for best in range(3)]
    assert found == [1, 1, 0]


def test_a_single_frame():
    assert frame_accuracy(np.array([[3.0]]), np.array([[1]])) == 1
    assert frame_accuracy(np.array([[-3.0]]), np.array([[1]])) == 0
