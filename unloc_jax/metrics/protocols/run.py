"""What `unloc metrics` does: one protocol on two files, its numbers as a table and as JSON."""

import importlib
import inspect
import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import InputWarning

# Name → module of this package and its function: a command imports only its own.
PROTOCOLS = {
    "activitynet": ("activitynet", "evaluate_activitynet"),
    "thumos14": ("thumos14", "evaluate_thumos14"),
    "detad": ("detad", "evaluate_detad"),
    "moment-retrieval": ("moment_retrieval", "evaluate_moment_retrieval"),
    "qvhighlights": ("qvhighlights", "evaluate_qvhighlights"),
    "tvsum": ("highlights", "evaluate_tvsum"),
    "youtube-highlights": ("highlights", "evaluate_youtube_highlights"),
    "segmentation": ("segmentation", "evaluate_segmentation"),
}


def evaluate(
    protocol: str, ground_truth: Path, predictions: Path, out: Path | None = None, **options: Any
) -> dict[str, Any]:
    """Prints the metrics of a protocol and writes them to `out`; warnings go to stderr, one line each.

    options: of the protocol's function; those that are None or False are left out. UserError where it has
    no such option.
    """
    module, name = PROTOCOLS[protocol]
    function = getattr(importlib.import_module(f"unloc_jax.metrics.protocols.{module}"), name)
    given = {option: value for option, value in options.items() if value not in (None, False)}
    known = [option for option in inspect.signature(function).parameters if option in options]
    for option in given:
        if option not in known:
            its = ", ".join(_flag(name) for name in known) or "none"
            raise UserError(f"{_flag(option)} is no option of the protocol {protocol}; its options: {its}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        metrics = function(ground_truth, predictions, **given)
    for warning in caught:
        print(f"unloc: warning: {warning.message}", file=sys.stderr)
    print("\n".join(table(metrics)))
    if out:
        out.write_text(json.dumps(_json(metrics), indent=1, allow_nan=False) + "\n", "utf-8")
        print(f"wrote {out}")
    return metrics


def table(metrics: dict[str, Any], inside: str = "") -> list[str]:
    """A line for every single number; what is listed per class or domain is for the JSON file."""
    lines = []
    for name, value in metrics.items():
        if isinstance(value, dict) and not name.startswith("per_class"):
            lines += table(value, f"{inside}{name} ")
        elif isinstance(value, float):
            lines.append(f"{inside + name:32} {value:8.2f}")
        elif isinstance(value, int):
            lines.append(f"{inside + name:32} {value:8d}")
    return lines


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def _json(value: Any) -> Any:
    """With null for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
