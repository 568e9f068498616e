"""Draws the record that a training slot shows, and its window and crop: functions of (seed, slot), no TensorFlow.

The numbers are those of `tf.random.experimental.index_shuffle` and, on CPUs, of `tf.random.stateless_uniform`, so that
runs begun with TensorFlow's continue with the same examples (tests/data_pipelines/reading/test_slots.py).
"""

import functools
from collections.abc import Iterator

import numpy as np

_UINT32 = 0xFFFFFFFF


def record_of_slot(slot: int, size: int, seed: int) -> int:
    """Returns which of `size` records a slot shows; every epoch has its own permutation."""
    epoch, position = divmod(slot, size)
    return _permuted(position, size - 1, seed, epoch)


def draws_of_slot(slot: int, count: int, seed: int) -> np.ndarray:
    """Returns the random numbers of a slot, float32 [count] in [0, 1)."""
    # 23 random bits each: float32 has no more between 1 and 2.
    bits = np.fromiter(_philox_stream(seed, slot, count), np.uint32, count) & np.uint32(0x7FFFFF)
    return (bits | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)


def training_records(size: int, seed: int, batch_size: int, step: int) -> list[int]:
    """Returns the indices, among `size` used records, of training batch `step` (from 0), over all hosts."""
    return [record_of_slot(slot, size, seed) for slot in range(step * batch_size, (step + 1) * batch_size)]


def _permuted(index: int, largest: int, seed: int, epoch: int) -> int:
    """Permutes 0 … largest: a block cipher, applied until the result is in range (Black and Rogaway, 2002)."""
    if largest == 0:
        return 0
    bits = max((largest - 1).bit_length(), 16)  # of a block; TensorFlow rounds log2(largest) up
    word = (bits + 1) // 2
    keys = _round_keys(word, seed & _UINT32, epoch & _UINT32)
    while True:
        index = _encrypted(index, word, keys)
        if index <= largest:
            return index


@functools.lru_cache(maxsize=256)
def _round_keys(word: int, *seed: int) -> tuple[int, ...]:
    """Returns the keys of the four rounds of the Simon cipher (eprint.iacr.org/2013/404) with words of `word` bits."""
    mask = (1 << word) - 1
    first, second, third = (key & mask for key in (498247692, *seed))  # TensorFlow fills up its key so
    last = (0xFFFFFFFC & mask) ^ 1 ^ first
    for turn in (3, 4):
        last ^= (third >> turn) | (third << (word - turn) & mask)
    return first, second, third, last


def _encrypted(block: int, word: int, keys: tuple[int, ...]) -> int:
    mask = (1 << word) - 1

    def mixed(x: int) -> int:
        one, two, eight = ((x << turn & mask) | (x >> (word - turn)) for turn in (1, 2, 8))
        return (one & eight) ^ two

    left, right = block >> word & mask, block & mask
    for first, second in (keys[:2], keys[2:]):
        left ^= mixed(right) ^ first
        right ^= mixed(left) ^ second
    return left << word | right


def _philox_stream(seed: int, slot: int, count: int) -> Iterator[int]:
    """Yields `count` numbers of 32 bits; the two seeds are mixed first, so that close ones give unrelated streams."""
    # TensorFlow's seeds are int32 here, which it extends by their sign.
    halves = [
        part for value in (_int32(seed), _int32(slot)) for part in (value & _UINT32, value >> 32 & _UINT32)
    ]
    key_0, key_1, counter_2, counter_3 = _philox(halves, 0x3EC8F720, 0x02461E29)
    for block in range(-(-count // 4)):
        yield from _philox([block, 0, counter_2, counter_3], key_0, key_1)[: count - 4 * block]


def _int32(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def _philox(counter: list[int], key_0: int, key_1: int) -> list[int]:
    """Computes Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3; SC 2011)."""
    a, b, c, d = counter
    for _ in range(10):
        x, y = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (y >> 32) ^ b ^ key_0, y & _UINT32, (x >> 32) ^ d ^ key_1, x & _UINT32
        key_0, key_1 = (key_0 + 0x9E3779B9) & _UINT32, (key_1 + 0xBB67AE85) & _UINT32
    return [a, b, c, d]
