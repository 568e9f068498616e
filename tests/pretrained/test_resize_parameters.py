"""Shape changes against scipy, which the reference uses, and against numbers worked out by hand."""

import numpy as np
import pytest
import scipy.ndimage

from unloc_jax.errors import UserError
from unloc_jax.pretrained import resize_parameters


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def zoomed(values: np.ndarray, *shape: int) -> np.ndarray:
    """The reference's call, for class embeddings and position grids alike."""
    factors = [new / old for new, old in zip(shape, values.shape)]
    return scipy.ndimage.zoom(values, (*factors, *[1] * (values.ndim - len(shape))), order=1)


def test_shorter_texts_keep_the_first_positions():
    source = random(77, 4)
    np.testing.assert_array_equal(resize_parameters.adapt_text_positions(source, random(32, 4)), source[:32])


def test_longer_texts_keep_the_models_own_positions_past_the_end():
    source, target = np.full((3, 2), 1.0, np.float32), np.full((5, 2), 2.0, np.float64)
    adapted = resize_parameters.adapt_text_positions(source, target)
    np.testing.assert_array_equal(adapted, [[1, 1], [1, 1], [1, 1], [2, 2], [2, 2]])
    assert adapted.dtype == np.float32


def test_text_towers_of_different_width_are_refused():
    with pytest.raises(UserError, match="width 512 and the model's 768"):
        resize_parameters.adapt_text_positions(np.zeros((77, 512)), np.zeros((77, 768)))


def test_grid_interpolation_by_hand():
    """2 × 2 to 3 × 3: corners stay, the rest are means."""
    adapted = resize_parameters.adapt_image_positions(
        np.array([[0.0], [4.0], [8.0], [16.0]]), 9, False, False
    )
    np.testing.assert_array_equal(adapted[:, 0], [0, 2, 4, 4, 7, 10, 8, 12, 16])


@pytest.mark.parametrize(("old", "new"), [(7, 14), (14, 7), (14, 24), (16, 24), (3, 1), (1, 3)])
def test_grid_interpolation_is_the_references(old, new):
    source = random(old * old, 5)
    adapted = resize_parameters.adapt_image_positions(source, new * new, False, False)
    expected = zoomed(source.reshape(old, old, 5), new, new).reshape(-1, 5)
    np.testing.assert_allclose(adapted, expected, rtol=0, atol=5e-7)
    assert adapted.dtype == np.float32


@pytest.mark.parametrize("source_has_class", [True, False])
@pytest.mark.parametrize("target_has_class", [True, False])
@pytest.mark.parametrize("new", [3, 4])
def test_class_row(source_has_class, target_has_class, new):
    source, target = random(9 + source_has_class, 6), random(new * new + target_has_class, 6)
    adapted = resize_parameters.adapt_image_positions(
        source, len(target), source_has_class, target_has_class, target
    )
    patches = source[1:] if source_has_class else source
    expected = zoomed(patches.reshape(3, 3, 6), new, new).reshape(-1, 6)
    if target_has_class:
        expected = np.concatenate([source[:1] if source_has_class else target[:1], expected])
    np.testing.assert_allclose(adapted, expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize(("old", "new"), [(24, 22), (16, 30), (8, 26)])
def test_the_last_row_is_never_lost(old, new):
    """scipy's zoom steps over the edge by one rounding error here, and fills in zeros."""
    assert zoomed(np.ones((old, 1)), new)[-1] == 0
    adapted = resize_parameters.adapt_image_positions(
        np.ones((old * old, 1), np.float32), new * new, False, False
    )
    np.testing.assert_array_equal(adapted, np.ones((new * new, 1)))


def test_grids_that_are_not_square_are_refused():
    with pytest.raises(UserError, match="the checkpoint's image position embedding has 197 patches"):
        resize_parameters.adapt_image_positions(random(197, 4), 50, False, True)
    with pytest.raises(UserError, match="the model's image position embedding has 15 patches"):
        resize_parameters.adapt_image_positions(random(197, 4), 16, True, True)


def test_a_class_row_from_nowhere_is_refused():
    with pytest.raises(ValueError, match="target"):
        resize_parameters.adapt_image_positions(random(9, 4), 10, False, True)


def test_one_class_embedding_is_repeated():
    np.testing.assert_array_equal(
        resize_parameters.adapt_class_embedding(np.array([1.0, 2.0]), 3), [[1, 2], [1, 2], [1, 2]]
    )


def test_class_embeddings_over_time_by_hand():
    source = np.array([[0.0, 0.0], [10.0, -10.0], [30.0, 0.0]])
    np.testing.assert_array_equal(
        resize_parameters.adapt_class_embedding(source, 5), [[0, 0], [5, -5], [10, -10], [20, -5], [30, 0]]
    )
    np.testing.assert_array_equal(resize_parameters.adapt_class_embedding(source, 2), [[0, 0], [30, 0]])


@pytest.mark.parametrize(("old", "new"), [(128, 160), (160, 128), (32, 64), (5, 1), (1, 5)])
def test_class_embeddings_over_time_are_the_references(old, new):
    source = random(old, 7)
    adapted = resize_parameters.adapt_class_embedding(source, new)
    np.testing.assert_allclose(adapted, zoomed(source, new), rtol=0, atol=5e-7)
    assert adapted.dtype == np.float32


def test_class_embedding_for_all_frames_is_the_mean():
    source = np.array([[0.0, 0.0], [10.0, -10.0], [32.0, 1.0]], np.float32)
    adapted = resize_parameters.adapt_class_embedding(source, None)
    np.testing.assert_array_equal(adapted, [14, -3])
    assert adapted.dtype == np.float32
    np.testing.assert_array_equal(resize_parameters.adapt_class_embedding(source[1], None), source[1])


def test_sequence_positions():
    source = np.array([[0.0], [1.0], [4.0], [9.0]])
    np.testing.assert_array_equal(
        resize_parameters.adapt_sequence_positions(source, 7)[:, 0], [0, 0.5, 1, 2.5, 4, 6.5, 9]
    )
    np.testing.assert_array_equal(resize_parameters.adapt_sequence_positions(source, 2)[:, 0], [0, 9])
    np.testing.assert_array_equal(resize_parameters.adapt_sequence_positions(source, 4), source)
