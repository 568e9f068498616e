import collections
import contextlib
import io
import pickle
import random
import tracemalloc

import numpy as np
import pytest

from unloc_jax.pretrained.pickled_arrays import read_pickled_arrays

ARRAYS = {
    "a.weight": np.arange(12, dtype=np.float16).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 5), np.float32),
    "scale": np.float32(4.6),
    "no_dimension": np.array(7, np.int64),
    "flags": np.array([True, False]),
    "number": 3,
}


class Calls:
    """An object whose pickle asks for a call."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def _read(content, protocol=4):
    return read_pickled_arrays(io.BytesIO(pickle.dumps(content, protocol)))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [dict, collections.OrderedDict, lambda arrays: np.array(arrays, object)])
def test_reads_what_pickle_reads(wrap, protocol):
    read = _read(wrap(ARRAYS), protocol)
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == np.asarray(array).dtype


def test_reads_what_numpy_saves(tmp_path):
    np.save(tmp_path / "a.npy", ARRAYS, allow_pickle=True)
    with (tmp_path / "a.npy").open("rb") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        assert list(read_pickled_arrays(stream)) == list(ARRAYS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": Calls(print, "ran")}, "asks for .*print"),
        ({"a": Calls(np.ndarray, (10**12,))}, "out of order|not NumPy's|unpack|values"),
        ({"a": Calls(np.dtype, "f4,f")}, "not a kind of number"),
        ({"a": Calls(np.dtype, [("x", "f4")] * 3)}, "not numbers"),
        ({"a": np.array(["text"])}, "not a kind of number|not numbers"),
        ({"a": np.array([None])}, "not an array of numbers"),
        ({"a": "text"}, "not an array of numbers"),
        ({"a": 2**70}, "not an array of numbers"),
        ({1: np.zeros(2)}, "is not a text"),
        ([np.zeros(2), np.zeros(2)], "instead of a dictionary"),
        (dict.fromkeys("abcdefgh", np.zeros(10_000)), "share one array"),
    ],
)
def test_refuses_everything_else(content, message, capsys):
    with pytest.raises(ValueError, match=message):
        _read(content)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_damaged_pickles_neither_crash_nor_allocate(protocol):
    whole = pickle.dumps(np.array(ARRAYS, object), protocol)
    random_ = random.Random(protocol)
    read = 0
    tracemalloc.start()
    for _ in range(4_000):
        damaged = bytearray(whole)
        for _ in range(random_.choice((1, 1, 2, 8))):
            place = random_.randrange(len(damaged))
            match random_.randrange(4):
                case 0:
                    damaged[place] ^= 1 << random_.randrange(8)
                case 1:
                    damaged[place] = random_.randrange(256)
                case 2:
                    del damaged[place : place + random_.randrange(1, 20)]
                case 3:
                    damaged[place:place] = damaged[: random_.randrange(40)]
        with contextlib.suppress(ValueError):
            read += len(read_pickled_arrays(io.BytesIO(damaged))) > 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read  # flips within numbers cannot be noticed
    assert peak < 4 * len(whole) + 500_000, peak  # besides Python's own
