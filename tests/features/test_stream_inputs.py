"""Windows of a stream: every frame has one row, of the window in which it is farthest from a border."""

import itertools

import hypothesis
import numpy as np
from hypothesis import strategies as st

from unloc_jax.features.encoder import Encoder
from unloc_jax.features.stream_inputs import OverlappingWindows


@hypothesis.given(st.integers(1, 9), st.data(), st.integers(0, 60))
def test_rows_are_those_of_the_window_with_most_around_them(length, data, count):
    overlap = data.draw(st.integers(0, length - 1))
    windows = OverlappingWindows(lambda frame: frame, length, overlap)
    made, new = [], 0
    for i in range(count):
        for one in windows.add(np.array([i])):
            made.append(one.array[:, 0])
            new += one.new_frames
    for one in windows.end():
        made.append(one.array[:, 0])
        new += one.new_frames
    assert new == count and windows.count == len(made)
    if not count:
        assert not made
        return
    assert all(len(window) == length for window in made)
    shown = [np.minimum(np.arange(window[0], window[0] + length), count - 1) for window in made]
    np.testing.assert_array_equal(made, shown)
    starts = [int(window[0]) for window in made]
    assert starts[-1] == max(0, count - length)
    assert all(0 < after - before <= length - overlap for before, after in itertools.pairwise(starts))
    # A row holds its window and its place there.
    rows = windows.join([np.array([(k, place) for place in range(length)]) for k in range(len(made))])
    assert len(rows) == count
    for i, (k, place) in enumerate(rows.tolist()):
        assert starts[k] + place == i
        around = [min(i - start, start + length - 1 - i) for start in starts]
        # Nothing precedes the first window or follows the last one, so their outer borders do not count.
        alone = (i < starts[1] if len(starts) > 1 else True) or i >= starts[max(0, len(starts) - 2)] + length
        if not alone:
            assert k == int(np.argmax(around))


class Sums(Encoder):
    """Adds to every frame of a window their sum; inputs come three at a time."""

    embed_dim = 1
    frames_per_input = 4
    encode_texts = num_pieces = fingerprint = _of_inputs = preprocess = None

    def __init__(self):
        self._rounded = lambda size: size
        self._batch_size, self._compiled = 3, None

    def inputs(self):
        return OverlappingWindows(lambda frame: frame, 4, 2)

    def _start(self, function, rows, size):
        made = rows + rows.sum(1, keepdims=True)
        return np.pad(made, [(0, size - len(rows)), (0, 0), (0, 0)])


def test_streams_in_one_batch_are_what_each_is_alone():
    streams = [[np.array([i + 100 * n]) for i in range(count)] for n, count in enumerate((3, 0, 17, 4, 1, 9))]
    together = list(Sums().encode_streams(streams))
    assert [len(rows) for rows in together] == [3, 0, 17, 4, 1, 9]
    for stream, rows in zip(streams, together):
        np.testing.assert_array_equal(rows, Sums().encode_stream(stream))
