"""Names of settings and parameters that older versions stored, and their names now: the one table for reading old runs.

A checkpoint and a config.json are read under the new names, without a word. A user's config is not translated: it is
told the new name.
"""

from collections.abc import Mapping
from typing import Any

import jax

SETTINGS = {"pretrain": "contrastive"}
"""Keys at the top of a config."""
PARAMETERS = {"temperature": "logit_scale", "moment_projection": "contrastive_projection"}
"""Keys at the top of a tree of parameters; the optimizer's state and the moving average hold trees like it."""
METADATA = {"facts": "dataset_metadata"}
"""Keys of the JSON beside a checkpoint's arrays."""


def renamed_metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON beside a checkpoint's arrays under the names of now.

    Raises:
      TypeError: It is not an object.
    """
    if not isinstance(values, Mapping):
        raise TypeError("it is not a JSON object")
    metadata = {METADATA.get(key, key): value for key, value in values.items()}
    if "config" in metadata:
        metadata["config"] = renamed_config(metadata["config"])
    if isinstance(metadata.get("fingerprints"), dict):
        metadata["fingerprints"] = {renamed_array(k): value for k, value in metadata["fingerprints"].items()}
    return metadata


def renamed_config(values: Any) -> Any:
    """Returns a stored config, as nested mappings, under the names of now; anything else unchanged."""
    if not isinstance(values, Mapping):
        return values
    config = {SETTINGS.get(key, key): value for key, value in values.items()}
    for stage in ("contrastive", "train"):
        group = config.get(stage)
        if isinstance(group, Mapping) and isinstance(group.get("learning_rates"), Mapping):
            rates = {renamed_array(prefix): rate for prefix, rate in group["learning_rates"].items()}
            config[stage] = {**group, "learning_rates": rates}
    return config


def renamed_array(name: str) -> str:
    """Returns the present name of an array such as "opt_state/0/mu/temperature" or "moment_projection/kernel"."""
    return "/".join(PARAMETERS.get(key, key) for key in name.split("/"))


def renamed_arrays(tree: Any) -> Any:
    """Returns a tree of arrays, or of anything else, whose dictionaries have the names of now."""
    return _with_keys(tree, PARAMETERS)


def as_stored(tree: Any, stored_params: Mapping[str, Any]) -> Any:
    """Returns a tree under the names of the checkpoint whose parameters are `stored_params`; see `renamed_arrays`."""
    return _with_keys(tree, {new: old for old, new in PARAMETERS.items() if old in stored_params})


def _with_keys(tree: Any, names: Mapping[str, str]) -> Any:
    def rename(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return {names.get(key, key): _with_keys(child, names) for key, child in node.items()}

    return jax.tree.map(rename, tree, is_leaf=lambda node: isinstance(node, dict))
