"""Annotation files as datasets ship them → VideoRecords. One small module per dataset; no TensorFlow."""

import difflib
from collections.abc import Callable
from pathlib import Path

from data_pipelines.annotations.activitynet import parse_activitynet
from data_pipelines.annotations.activitynet_captions import parse_activitynet_captions
from data_pipelines.annotations.parsed import ParsedAnnotations
from unloc_jax.errors import UserError

PARSERS: dict[str, Callable[[list[Path]], ParsedAnnotations]] = {
    "activitynet": parse_activitynet,
    "activitynet_captions": parse_activitynet_captions,
}


def parse(dataset: str, files: list[Path]) -> ParsedAnnotations:
    """Reads the annotation files of a dataset.

    Args:
      dataset: a name in `PARSERS`.
      files: the files of all wanted splits.

    Raises:
      UserError: an unknown name, or a file that is missing or not in the dataset's format.
    """
    if dataset not in PARSERS:
        nearest = difflib.get_close_matches(str(dataset), PARSERS, n=1)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        raise UserError(f"Unknown dataset {dataset!r}.{hint} Known datasets: {', '.join(sorted(PARSERS))}.")
    if not files:
        raise UserError(f"No annotation file was given for {dataset}.")
    return PARSERS[dataset]([Path(file) for file in files])
