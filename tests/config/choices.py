"""The schema's choices by key; entries of `tasks` have those of the top level, modalities are not named."""

import dataclasses
import typing
from collections.abc import Iterator

from unloc_jax.config import Config


def _choices(schema: type, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, hint in typing.get_type_hints(schema).items():
        inner = typing.get_args(hint)[1] if typing.get_origin(hint) is dict else hint
        if typing.get_origin(hint) is typing.Literal:
            yield prefix + name, typing.get_args(hint)
        elif dataclasses.is_dataclass(inner) and name != "tasks":
            yield from _choices(typing.cast(type, inner), f"{prefix}{name}.")


CHOICES = dict(_choices(Config))
