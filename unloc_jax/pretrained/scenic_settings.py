"""Groups of settings in a Scenic config, which track what is read and refuse what is unknown."""

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from unloc_jax.errors import UserError


class Settings:
    """A group of the reference's settings with its name; None is the same as absent."""

    def __init__(self, values: Any, name: str = ""):
        if not isinstance(values, Mapping):
            raise UserError(
                f"The reference's config: {name or 'the whole'} is not a group of settings but {values!r}."
            )
        self.values = {key: value for key, value in values.items() if value is not None}
        self.name = name
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str, default: Any = None) -> Any:
        """Returns a setting, or the default if it is absent."""
        self._read.add(key)
        return self.values.get(key, default)

    def need(self, key: str) -> Any:
        """Returns a setting; raises UserError if it is absent."""
        if key not in self.values:
            raise UserError(f"The reference's config has no {self._named(key)}.")
        return self.get(key)

    def group(self, key: str) -> "Settings":
        """Returns the group of this name, empty if it is absent."""
        return Settings(self.get(key, {}), self._named(key))

    def refuse(self, key: str, why: str) -> NoReturn:
        """Raises UserError with the setting's name and value."""
        raise UserError(f"The reference's config: {self._named(key)} = {self.values.get(key)!r} {why}.")

    def only(self, key: str, *allowed: Any, why: str) -> None:
        """Refuses a setting that is present with a value other than these."""
        if key in self.values and self.get(key) not in allowed:
            self.refuse(key, why)

    def close(self, *without_effect: str) -> None:
        """Refuses settings that have not been read, because they may change the computation."""
        for key in self.values:
            if key not in self._read and key not in without_effect:
                self.refuse(key, "is not known here")

    def _named(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def renamed(group: Settings, names: Mapping[str, str]) -> dict[str, Any]:
    """Returns settings that only have another name, where they are given."""
    return {ours: group.get(theirs) for theirs, ours in names.items() if theirs in group}


def parameter_shape(params: Mapping[str, np.ndarray], name: str) -> tuple[int, ...]:
    """Returns the shape of a checkpoint's parameter.

    Raises:
      UserError: The parameter is missing.
    """
    if name not in params:
        raise UserError(f"The checkpoint has no parameter {name}, which its config asks for.")
    return params[name].shape
