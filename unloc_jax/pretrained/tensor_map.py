"""Maps of other programs' tensors to our parameters: names, shapes, and how an array of theirs becomes ours."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Turn:
    """How an array of theirs becomes ours.

    Attributes:
      their_shape: Their shape, of ours.
      our_shape: Ours of two axes, of theirs, to find the sizes of a model.
      rank: Their number of axes where ours has two.
      ours: Our array, of their array and our shape.
    """

    their_shape: Callable[[Shape], Shape]
    our_shape: Callable[[Shape], Shape] = lambda shape: shape
    rank: int = 2
    ours: Callable[[np.ndarray, Shape], np.ndarray] = lambda array, shape: array.reshape(shape)


def _turned(array: np.ndarray, shape: Shape) -> np.ndarray:
    return array.T.reshape(shape)


SAME = Turn(lambda shape: shape)
FLAT = Turn(lambda shape: (math.prod(shape),))
# PyTorch's linear layer, [out, in]: of one input axis, and of two (heads and their width).
LINEAR = Turn(lambda shape: (math.prod(shape[1:]), shape[0]), lambda shape: shape[::-1], ours=_turned)
LINEAR_OF_HEADS = Turn(lambda shape: (shape[-1], math.prod(shape[:-1])), ours=_turned)
# One and two axes of length 1 before ours.
AFTER_ONE = Turn(lambda shape: (1, *shape), lambda shape: shape[1:], 3)
AFTER_TWO = Turn(lambda shape: (1, 1, *shape), lambda shape: shape[2:], 4)


def _side(shape: Shape) -> int:
    """Returns the side of square patches of three colours, whose pixels are the first axis of [patch² · 3, width]."""
    return math.isqrt(shape[0] // 3)


# Convolutions that read patches, as PyTorch and as Flax store them.
TORCH_PATCHES = Turn(
    lambda shape: (shape[1], 3, _side(shape), _side(shape)),
    lambda shape: (math.prod(shape[1:]), shape[0]),
    4,
    lambda array, shape: array.transpose(2, 3, 1, 0).reshape(shape),
)
FLAX_PATCHES = Turn(
    lambda shape: (_side(shape), _side(shape), 3, shape[1]),
    lambda shape: (math.prod(shape[:-1]), shape[-1]),
    4,
)


class Of(NamedTuple):
    """A tensor that one of our parameters, or a part of it, is made of.

    Attributes:
      name: Theirs, with {} for the number of a layer where ours is stacked over the layers.
      turn: See `Turn`.
      part: Which of the queries, keys and values of our [..., 3, H, D/H]; None = the whole array.
    """

    name: str
    turn: Turn = SAME
    part: int | slice | None = None


Map = Mapping[str, tuple[Of, ...]]  # by our path, joined by "/"


def named(ours: str, theirs: str, names: Mapping[str, tuple[str, Turn]]) -> dict[str, tuple[Of, ...]]:
    """Maps the parameters of a layer: ours/KEY is theirs + name."""
    return {f"{ours}/{key}": (Of(theirs + name, turn),) for key, (name, turn) in names.items()}


def torch_linear(ours: str, theirs: str, turn: Turn = LINEAR) -> dict[str, tuple[Of, ...]]:
    """Maps a linear layer of PyTorch's with a bias."""
    return named(ours, theirs, {"kernel": (".weight", turn), "bias": (".bias", FLAT)})


def torch_norm(ours: str, theirs: str) -> dict[str, tuple[Of, ...]]:
    """Maps a LayerNorm of PyTorch's."""
    return named(ours, theirs, {"scale": (".weight", SAME), "bias": (".bias", SAME)})


def flax_layer(ours: str, theirs: str) -> dict[str, tuple[Of, ...]]:
    """Maps a linear layer of Flax's with a bias."""
    return named(ours, theirs, {"kernel": ("/kernel", SAME), "bias": ("/bias", SAME)})


def flax_norm(ours: str, theirs: str) -> dict[str, tuple[Of, ...]]:
    """Maps a LayerNorm of Flax's."""
    return named(ours, theirs, {"scale": ("/scale", SAME), "bias": ("/bias", SAME)})


class _Place(NamedTuple):
    """Where a tensor goes: our path, the number of the layer (None = not stacked), and what it is made of."""

    path: str
    row: int | None
    of: Of
    shape: Shape  # of that part of ours


def _places(shapes: Mapping[str, Shape], names: Map) -> Iterator[tuple[str, _Place]]:
    """Yields every tensor of theirs with its place, given the shapes of our parameters by path."""
    for path, shape in shapes.items():
        for of in names[path]:
            stacked = "{}" in of.name
            inner = shape[1:] if stacked else shape
            if isinstance(of.part, slice):
                inner = (*inner[:-3], len(range(*of.part.indices(inner[-3]))), *inner[-2:])
            elif of.part is not None:
                inner = (*inner[:-3], *inner[-2:])
            for row in range(shape[0]) if stacked else (None,):
                yield of.name.format(row), _Place(path, row, of, inner)


def their_shapes(shapes: Mapping[str, Shape], names: Map) -> dict[str, Shape]:
    """Returns the shapes of their tensors by name, given those of our parameters by path."""
    return {name: place.of.turn.their_shape(place.shape) for name, place in _places(shapes, names)}


def to_params(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], names: Map) -> dict[str, Any]:
    """Returns our tree, float32, of their tensors, whose names and shapes are those of `their_shapes`."""
    ours = {path: np.empty(shape, np.float32) for path, shape in shapes.items()}
    for name, (path, row, of, shape) in _places(shapes, names):
        array = of.turn.ours(tensors[name].astype(np.float32), shape)
        if of.part is None:
            ours[path][... if row is None else row] = array
        else:
            (ours[path] if row is None else ours[path][row])[..., of.part, :, :] = array
    return traverse_util.unflatten_dict(ours, sep="/")
