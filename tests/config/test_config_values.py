"""Every number of a config is checked, wherever it is; and values on the command line are read as they are meant."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from unloc_jax.config import Config, from_mapping, with_overrides
from unloc_jax.errors import UserError

# (key, how a number comes to be its value) of every number of the schema; dictionaries get an entry "x".
Numbers = Iterator[tuple[str, typing.Callable[[Any], Any]]]
_NEGATIVE = {
    "mesh.data",
    "mesh.context",
    "mesh.model",
    "model.head.relevance_bias",
    "model.head.offsets_bias",
    "data.augmentation.audio.mix_snr_db",
    "tasks.x.data.augmentation.audio.mix_snr_db",
}
_INFINITE = {"model.pyramid.regression_ranges"}


def _numbers(hint: Any, key: str = "", wrap: typing.Callable[[Any], Any] = lambda value: value) -> Numbers:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        for name, of_field in typing.get_type_hints(hint).items():
            yield from _numbers(of_field, f"{key}.{name}", lambda value, name=name: wrap({name: value}))
    elif origin is dict:
        inner = lambda value: wrap({"x": value})
        yield from _numbers(
            arguments[1], f"{key}.x" if dataclasses.is_dataclass(arguments[1]) else key, inner
        )
    elif origin is types.UnionType:
        for argument in arguments:
            yield from _numbers(argument, key, wrap)
    elif origin is tuple:
        parts = [arguments[0]] if arguments[-1] is Ellipsis else arguments
        for place, part in enumerate(parts):
            # Its neighbours are what could stand there.
            others = [float(10 * n) for n in range(len(parts))]
            inner = lambda value, place=place, others=others: wrap(
                (*others[:place], value, *others[place + 1 :])
            )
            yield from _numbers(part, key, inner)
    elif hint in (int, float):
        yield key.removeprefix("."), wrap


NUMBERS = list(_numbers(Config))


def test_the_walk_finds_numbers_wherever_they_sit():
    keys = {key for key, _ in NUMBERS}
    assert len(NUMBERS) > 120 and keys > {
        "seed", "loss.radius", "train.decay_factors", "train.learning_rates", "profile", "tasks.x.weight",
        "tasks.x.data.augmentation.scale_jitter", "model.modalities.x.feature_dim", *_INFINITE, *_NEGATIVE,
    }  # fmt: skip


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39, 10**400, -1], ids=str)
def test_no_number_is_impossible(bad):
    """nan, infinities, what float32 and int32 do not hold, and negative numbers, but where they mean something."""
    for key, wrap in NUMBERS:
        allowed = (bad == -1 and key in _NEGATIVE) or (bad in (math.inf, 10**400) and key in _INFINITE)
        try:
            from_mapping(wrap(bad))
        except UserError as error:
            where = str(error)
            if not allowed:
                assert key.split(".")[-1] in where, (key, bad, where)
        else:
            assert allowed, (key, bad)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "INFINITY", "1e999", "-1"])
def test_nor_is_one_on_the_command_line(text):
    for key, wrap in NUMBERS:
        value = wrap("?")
        for name in key.split("."):
            value = value[name]
        written = repr(value).replace("'?'", text) if value != "?" else text
        allowed = (text == "-1" and key in _NEGATIVE) or (
            text in ("inf", "INFINITY", "1e999") and key in _INFINITE
        )
        if not allowed:
            with pytest.raises(UserError):
                with_overrides({}, [f"{key}={written}"])


def test_settings_that_people_name_have_the_bounds_of_their_kind():
    """ "data" and "b1" are settings too, with other bounds."""
    with pytest.raises(UserError, match=r"train\.learning_rates\.data must be at least 0, got -0\.5"):
        from_mapping({"train": {"learning_rates": {"data": -0.5}}})
    assert from_mapping({"train": {"learning_rates": {"b1": 2.0}}}).train.learning_rates == {"b1": 2.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"decay_steps": (200, 100), "decay_factors": (0.1, 0.01)}}, r"decay_steps must increase, got \(200"),
        ({"train": {"decay_steps": (5, 5), "decay_factors": (0.1, 0.01)}}, r"decay_steps must increase"),
        ({"train": {"decay_steps": (5,), "decay_factors": (-0.5,)}}, r"decay_factors\[0\] must be at least 0, got -0"),
        ({"train": {"decay_steps": (0,), "decay_factors": (0.5,)}}, r"decay_steps\[0\] must be at least 1, got 0"),
        ({"loss": {"boundaries": "-1*iou"}}, r"boundaries = '-1\*iou': the factor -1 must be finite and at least 0"),
        ({"loss": {"boundaries": "l1+nan*iou"}}, r"the factor nan must be finite"),
        ({"loss": {"boundaries": "inf*iou"}}, r"the factor inf must be finite"),
        ({"tasks": {"a": {"loss": {"boundaries": "1e39*l1"}}}}, r"config\.tasks\.a\.loss\.boundaries"),
        ({"tasks": {"a": {"weight": math.inf}}}, r"config\.tasks\.a\.weight must be finite"),
        ({"model": {"pyramid": {"regression_ranges": ((0, math.nan),) * 4}}}, r"ranges\[0\]\[1\] is not a number"),
        ({"seed": 2**31}, r"config\.seed must be at most 2147483647"),
    ],
)  # fmt: skip
def test_values_inside_of_others(values, message):
    with pytest.raises(UserError, match=message):
        from_mapping(values)


@pytest.mark.parametrize("infinity", ["inf", "INFINITY", "1e999", "+inf"])
def test_an_open_end_can_be_written(infinity):
    text = f"model.pyramid.regression_ranges=((0, 4), (4, {infinity}))"
    config = with_overrides({}, ["model.pyramid.num_levels=2", text])
    assert config.model.pyramid.regression_ranges == ((0.0, 4.0), (4.0, math.inf))


@pytest.mark.parametrize(
    "text", ["-" * 100_000 + "1", "(" * 5_000, "[" * 300 + "]" * 300, "__import__('os')", "a.inf"]
)
def test_texts_that_are_no_literal_stay_texts(text):
    assert with_overrides({}, [f"wandb.project={text}"]).wandb.project == text
    with pytest.raises(UserError, match=r"config\.seed must be of type int"):
        with_overrides({}, [f"seed={text}"])
