"""Arrays of other shapes or dtypes than documented are refused while tracing, instead of being broadcast."""

import jax
import jax.numpy as jnp
import pytest

from unloc_jax.config import EvaluationConfig
from unloc_jax.localization.decode import Localization, decode
from unloc_jax.localization.geometry import pyramid_geometry
from unloc_jax.localization.losses import boundary_loss, matching_loss
from unloc_jax.localization.nms import suppress
from unloc_jax.localization.targets import assign_targets

B, N, T, M = 2, 3, 8, 4
GEOMETRY = pyramid_geometry(T, 2, 2)
P = GEOMETRY.num_points
SETTINGS = EvaluationConfig(max_detections=5).suppression(P)


def f32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def boolean(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.bool_)


def int32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def decoded(relevance, offsets, frame_mask, span_s):
    return decode(Localization(relevance, offsets), frame_mask, span_s, GEOMETRY, SETTINGS)


# Function, arguments as documented, and what to put in the place of one of them.
CASES = {
    "decode": (
        decoded,
        (f32(B, N, P), f32(B, N, P, 2), boolean(B, T), f32(B, 2)),
        {0: f32(B, N, P + 1), 1: f32(B, N, P), 2: boolean(B, T - 1), 3: f32(1, 2)},
    ),
    "decode a mask of floats": (
        decoded,
        (f32(B, N, P), f32(B, 1, P, 2), boolean(B, T), f32(B, 2)),
        {2: f32(B, T)},
    ),
    "assign_targets": (
        lambda segments, text: assign_targets(segments, text, N, GEOMETRY),
        (f32(B, 5, 2), int32(B, 5)),
        {0: f32(B, 4, 2), 1: f32(B, 5)},
    ),
    "suppress": (
        lambda segments, scores: suppress(segments, scores, SETTINGS),
        (f32(B, N, P, 2), f32(B, N, P)),
        {0: f32(B, 1, P, 2), 1: f32(B, N, 1)},
    ),
    "matching_loss": (
        matching_loss,
        (f32(M, M), boolean(M), boolean(M, M)),
        {0: f32(M, 1), 1: f32(M), 2: boolean(M, 1)},
    ),
    "boundary_loss": (
        lambda offsets, targets: boundary_loss("l1+iou", offsets, targets),
        (f32(B, N, P, 2), f32(B, N, P, 2)),
        {0: f32(B, N, P, 1)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_arrays_are_as_documented(case):
    function, arguments, others = CASES[case]
    assert jax.tree.leaves(jax.eval_shape(function, *arguments))
    for place, other in others.items():
        with pytest.raises(AssertionError):
            jax.eval_shape(function, *arguments[:place], other, *arguments[place + 1 :])
