"""What a checkpoint holds beside its arrays: their tree, and a JSON of config, dataset metadata and history.

Fingerprints in the JSON cover the arrays, and a checksum covers the JSON.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from unloc_jax.dataset import DatasetMetadata
from unloc_jax.old_names import renamed_metadata

# The only keys of a checkpoint without a checksum, as versions before it wrote them. Any other key, also one that
# damage has made of "checksum", demands a checksum: one damage cannot make a new checkpoint look like an old one.
_KEYS_WITHOUT_CHECKSUM = {"config", "facts", "dataset_metadata", "history", "fingerprints"}


def with_checksum(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metadata as JSON values, with a "checksum" of all others."""
    values = json.loads(json.dumps(metadata))
    return {**values, "checksum": _checksum(values)}


def read_checked(step_dir: Path) -> dict[str, Any]:
    """Reads a checkpoint's metadata under the names of now; it has a "checksum" unless an older version wrote it.

    Raises:
      Exception: The metadata is damaged; of any kind, because the bytes that orbax reads may be anything.
    """
    with ocp.Checkpointer(ocp.JsonCheckpointHandler(), multiprocessing_options=alone()) as checkpointer:
        stored = checkpointer.restore(step_dir / "metadata")
    metadata = renamed_metadata(stored)
    if stored.keys() - _KEYS_WITHOUT_CHECKSUM:
        rest = {key: value for key, value in stored.items() if key != "checksum"}
        if stored.get("checksum") != _checksum(rest):
            raise ValueError("it differs from what was saved")
    if not metadata["dataset_metadata"]:
        raise TypeError("it holds no dataset metadata")
    for of_task in metadata["dataset_metadata"].values():
        DatasetMetadata(**of_task)
    if not isinstance(metadata["config"], dict):
        raise TypeError("it holds no config")
    return metadata


def read_tree(step_dir: Path) -> dict[str, Any]:
    """Reads the descriptions of the stored arrays (shapes and dtypes), a tree under their stored names.

    Raises:
      Exception: The checkpoint is damaged; of any kind.
    """
    # Not by a Checkpointer, which hides errors.
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone())
    return dict(handler.metadata(epath.Path(step_dir / "state")))


def alone() -> ocp.options.MultiprocessingOptions:
    """Returns orbax's options for reading in this process without waiting for the others of its run."""
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"unloc-{here}"
    )


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
