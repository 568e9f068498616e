"""The order of training and its random numbers: TensorFlow's, without TensorFlow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.reading.slots import draws_of_slot, record_of_slot

seeds = st.integers(-(2**31), 2**31 - 1)


@given(size=st.integers(1, 300), seed=seeds, epoch=st.integers(0, 2**33))
def test_every_record_once_per_epoch(size, seed, epoch):
    shown = [record_of_slot(slot, size, seed) for slot in range(epoch * size, (epoch + 1) * size)]
    assert sorted(shown) == list(range(size))


@given(seed=seeds, slot=st.integers(0, 2**40), count=st.integers(0, 9))
def test_draws_are_of_the_unit_interval_and_the_first_ones_do_not_depend_on_their_number(seed, slot, count):
    draws = draws_of_slot(slot, 9, seed)
    assert draws.dtype == np.float32 and ((draws >= 0) & (draws < 1)).all()
    np.testing.assert_array_equal(draws_of_slot(slot, count, seed), draws[:count])


def test_the_order_of_existing_runs():
    """As TensorFlow 2.21 gives it (the first is the example of `index_shuffle`): runs must continue with it."""
    assert [record_of_slot(slot, 10, 5) for slot in range(80, 90)] == [3, 8, 0, 1, 2, 7, 6, 9, 4, 5]
    assert [record_of_slot(300_000 + i, 100_000, -7) for i in range(4)] == [86121, 46220, 64372, 11136]
    draws = [0.71153295, 0.02264845, 0.60841691, 0.28197980]
    np.testing.assert_allclose(draws_of_slot(2**31 + 5, 4, -1), draws, atol=1e-7)


@given(size=st.integers(1, 2**40), seed=seeds, slot=st.integers(0, 2**50))
def test_equals_tensorflow(size, seed, slot):
    tf = pytest.importorskip("tensorflow")
    epoch, position = (tf.constant(value, tf.int64) for value in divmod(slot, size))
    record = tf.random.experimental.index_shuffle(position, seed=[seed, epoch], max_index=size - 1)
    assert record_of_slot(slot, size, seed) == int(record)
    as_int32 = tf.cast(tf.constant(slot, tf.int64), tf.int32)
    draws = tf.random.stateless_uniform([9], seed=[seed, as_int32])
    np.testing.assert_array_equal(draws_of_slot(slot, 9, seed), draws.numpy())
