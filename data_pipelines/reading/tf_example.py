"""Reads serialized tf.train.Example and SequenceExample messages without TensorFlow, skipping unwanted features.

An example of ours consists of several megabytes of JPEG frames and some hundred bytes of annotations. The generated
protobuf classes copy everything; this walks the wire format (https://protobuf.dev/programming-guides/encoding) and
skips the values of unwanted features without touching them, which on a memory map means without reading them from disk.

    Example { Features features = 1; }            Feature { oneof: BytesList bytes_list = 1;
    Features { map<string, Feature> feature = 1; }                 FloatList float_list = 2;
                                                                   Int64List int64_list = 3; }

    SequenceExample { Features context = 1;       FeatureLists { map<string, FeatureList> feature_list = 1; }
                      FeatureLists feature_lists = 2; }          FeatureList { repeated Feature feature = 1; }
"""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

Buffer = bytes | memoryview
Values = list[bytes] | np.ndarray  # or list[memoryview], if views are requested
_EMPTY = memoryview(b"")


def parse_example(
    buffer: Buffer, wanted: Collection[str], prefixes: tuple[str, ...] = (), views: Collection[str] = ()
) -> dict[str, Values]:
    """Returns the wanted features that a serialized tf.train.Example contains.

    Args:
      buffer: the serialized message.
      wanted: names of features; missing ones are absent from the result.
      prefixes: features whose names begin with one of these are also wanted.
      views: features whose bytes are returned as views of the buffer instead of copies.

    Returns:
      For each feature: a list of bytes (or of memoryviews), a float32 array or an int64 array (1-D).

    Raises:
      ValueError: not a serialized Example.
    """
    result: dict[str, Values] = {}
    for field, features in _fields(memoryview(buffer)):
        if field == 1:
            for name, feature in _map_entries(features):
                if name in wanted or name.startswith(prefixes):
                    result[name] = _feature(feature, views=name in views)
    return result


class SequenceExample:
    """A serialized tf.train.SequenceExample; locates its features at once, decodes their values on demand.

    Attributes:
      context: the undecoded context features by name.
      lists: the undecoded feature lists by name.

    Raises:
      ValueError: not a serialized SequenceExample (`values` and `steps`, which decode later, also raise it).
    """

    def __init__(self, buffer: Buffer):
        self.context: dict[str, memoryview] = {}
        self.lists: dict[str, memoryview] = {}
        for field, message in _fields(memoryview(buffer)):
            if field == 1:
                self.context.update(_map_entries(message))
            elif field == 2:
                self.lists.update(_map_entries(message))

    def values(self, name: str) -> Values:
        """Returns a context feature: list of bytes, float32 [n] or int64 [n]; [] if it has no values."""
        return _feature(self.context[name])

    def steps(self, name: str, views: bool = False) -> Iterator[Values]:
        """Yields the features of a feature list one by one, each as in `values`, or with views instead of bytes."""
        for field, feature in _fields(self.lists[name]):
            if field == 1:
                yield _feature(_message(feature), views)

    def num_steps(self, name: str) -> int:
        """Returns the number of features in a feature list, without reading their values."""
        return sum(field == 1 for field, _ in _fields(self.lists[name]))


def _map_entries(message: memoryview | int) -> Iterator[tuple[str, memoryview]]:
    """Yields (key, undecoded value) of a message that consists only of a map (field 1) of messages."""
    for field, entry in _fields(_message(message)):
        if field == 1:
            parts = dict(_fields(_message(entry)))
            name = bytes(_message(parts.get(1, _EMPTY))).decode()
            yield name, _message(parts.get(2, _EMPTY))


def _feature(buffer: memoryview, views: bool = False) -> Values:
    for field, values in _fields(buffer):
        if field == 1 and views:
            views_of_bytes: Any = [_message(value) for _, value in _fields(_message(values))]
            return views_of_bytes
        if field == 1:
            return [bytes(_message(value)) for _, value in _fields(_message(values))]
        if field == 2:  # packed, or one fixed32 per value
            packed = b"".join(bytes(_message(value)) for _, value in _fields(_message(values)))
            return np.frombuffer(packed, "<f4")
        if field == 3:
            return np.array(list(_int64s(_message(values))), np.int64)
    return []


def _int64s(buffer: memoryview) -> Iterator[int]:
    for _, value in _fields(buffer):
        if isinstance(value, int):
            yield _signed(value)
        else:
            position = 0
            while position < len(value):
                number, position = _varint(value, position)
                yield _signed(number)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("not a serialized example: a number where a message should be")
    return value


def _fields(buffer: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yields (field number, value) of a message: an int for a varint, otherwise the bytes of the value."""
    position = 0
    while position < len(buffer):
        tag, position = _varint(buffer, position)
        wire_type = tag & 7
        if wire_type == 0:
            number, position = _varint(buffer, position)
            yield tag >> 3, number
            continue
        if wire_type == 2:
            length, position = _varint(buffer, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"not a serialized example: wire type {wire_type}")
        end = position + length
        if end > len(buffer):
            raise ValueError("not a serialized example: it ends inside a field")
        yield tag >> 3, buffer[position:end]
        position = end


def _varint(buffer: memoryview, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if position >= len(buffer) or shift > 63:
            raise ValueError("not a serialized example: broken number")
        byte = buffer[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
