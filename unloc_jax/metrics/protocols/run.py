"""`unloc metrics`: runs one protocol on two files and shows its numbers as tables and as JSON."""

import contextlib
import gc
import importlib
import inspect
import json
import math
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import InputWarning
from unloc_jax.metrics.protocols import PROTOCOLS
from unloc_jax.metrics.protocols.annotated import Annotated
from unloc_jax.metrics.protocols.presets import preset_of
from unloc_jax.paths import check_output_file
from unloc_jax.whole_writes import write_result

_AT = re.compile(
    r"([\w+&-]+)@(\d[\d.]*)(@\d+)?"
)  # mAP@0.50, R1@0.5, AR@10; recall@0.50@5 is recall@5 at 0.50
_LINE_BY_LINE = ("brief", "per_domain")
# Values that are not numbers stand below the numbers.
_SETTINGS = {"background": "the label that is not an action (--background)"}


def run_protocol(
    protocol: str, ground_truth: Path | Annotated, predictions: Path, out: Path | None = None, **options: Any
) -> dict[str, Any]:
    """Prints the metrics of a protocol and writes them to `out`; see `measure`."""
    check_output_file("--out", out)
    metrics = measure(protocol, ground_truth, predictions, **options)
    if out:
        write_result(out, json.dumps(_json(metrics), indent=1, allow_nan=False) + "\n")
    show("\n".join(tables(metrics)))
    if out:
        show(f"wrote {out}")
    return metrics


def measure(
    protocol: str, ground_truth: Path | Annotated, predictions: Path, **options: Any
) -> dict[str, Any]:
    """Returns the metrics of a protocol; warnings go to stderr, one line each.

    Args:
      protocol: name of the protocol, or of a dataset's (`presets`).
      ground_truth: file, or annotated videos.
      predictions: file.
      **options: of the protocol's function; those that are None or False are left out.

    Raises:
      UserError: there is no such protocol, it has no such option, or it refuses a file.
    """
    protocol, of_dataset = preset_of(protocol)
    module, name = PROTOCOLS[protocol]
    function = getattr(importlib.import_module(f"unloc_jax.metrics.protocols.{module}"), name)
    given = {option: value for option, value in options.items() if value is not None and value is not False}
    known = [option for option in inspect.signature(function).parameters if option in options]
    for option in given:
        if option not in known:
            its = ", ".join(_flag(name) for name in known) or "none"
            raise UserError(
                f"{_flag(option)} is not an option of the protocol {protocol}; its options: {its}"
            )
    with warnings.catch_warnings(record=True) as caught, _without_collection():
        warnings.simplefilter("always", InputWarning)
        metrics = function(ground_truth, predictions, **of_dataset | given)
    for warning in caught:
        show(f"unloc: warning: {warning.message}", file=sys.stderr)
    return metrics


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Pauses the search for cycles, which would look again and again at the millions of objects of a file."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def tables(metrics: dict[str, Any]) -> list[str]:
    """Formats metrics as lines of text: single values, then a row for each group of values at thresholds.

    Values per class appear only in the JSON file.
    """
    single: list[tuple[str, Any]] = []
    settings = []
    rows: dict[str, dict[str, Any]] = {}
    for name, value in metrics.items():
        at = _AT.fullmatch(name)
        if at:
            rows.setdefault(at[1] + (at[3] or ""), {})[at[2]] = value
        elif name.startswith("per_class") or isinstance(value, list):
            continue
        elif name in _SETTINGS:
            shown = "none" if value is None else f'"{value}"'
            settings += ["", f"{name}: {shown}, {_SETTINGS[name]}"]
        elif not isinstance(value, dict):
            single.append((name, value))
        elif name in _LINE_BY_LINE:
            single += value.items()
        elif any(isinstance(inner, dict) for inner in value.values()):
            rows |= {f"{name} {kind}": inner for kind, inner in value.items()}
        else:
            rows[name] = value
    width = max(map(len, [name for name, _ in single] + list(rows)))
    lines = [f"{name:{width}}  {_text(value):>7}" for name, value in single]
    for first in dict.fromkeys(
        next(iter(values)) for values in rows.values()
    ):  # of the columns: a table each
        of_table = {name: values for name, values in rows.items() if first in values}
        header = max(of_table.values(), key=len)
        lines += ["", " " * width + "".join(f"{column:>9}" for column in header)]
        for name, values in of_table.items():
            lines.append(
                f"{name:{width}}" + "".join(f"{_text(values.get(c, '')):>9}" for c in header).rstrip()
            )
    return lines + settings


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def _json(value: Any) -> Any:
    """Replaces NaN, which JSON does not have, by null."""
    if isinstance(value, dict):
        return {name: _json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
