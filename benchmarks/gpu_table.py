"""Formats the measurements of `gpu.py` as Markdown."""

import json
from collections.abc import Iterable
from typing import Any

_HEADER = ("| config | videos | attention | remat | s/step | videos/s | MFU % | of a product's rate % | "
           "peak GiB | compile s |")  # fmt: skip


def tables(lines: Iterable[str]) -> str:
    """Returns all tables for lines of JSON as `gpu_rows` writes them; parts that were not measured are omitted."""
    results = [json.loads(line) for line in lines]
    machine = next((one for one in results if "product_flops" in one), {})
    parts = [_machine(machine)] if machine else []
    steps = [_step(one, machine) for one in results if "seconds" in one]
    if steps:
        parts.append("\n".join([_HEADER, "|---" * (_HEADER.count("|") - 1) + "|", *steps]))
    traces = [one for one in results if "trace" in one]
    if traces:
        parts.append(_traces(traces))
        parts += [_kernels(one) for one in traces]
    parts += [_errors(one["errors"]) for one in results if "errors" in one]
    parts += [_attention(one["attention_ms"]) for one in results if "attention_ms" in one]
    parts += [_nms(one["nms"]) for one in results if "nms" in one]
    parts += [_augmentation(one["augmentation"]) for one in results if "augmentation" in one]
    failed = [f"- {one['row']}: {one['error']}" for one in results if "error" in one]
    if failed:
        parts.append("Not measured:\n\n" + "\n".join(failed))
    return "\n\n".join(parts)


def _machine(of: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in of["versions"].items())
    peak = f", of {of['peak_flops'] / 1e12:.0f} by its data sheet" if of["peak_flops"] else ""
    return (
        f"{of['device']}, {versions}, {of['date']}. A product of two bfloat16 matrices of 8192²: "
        f"{of['product_flops'] / 1e12:.3g} TFLOP/s{peak}; x + 1 of 4 GiB: "
        f"{of['copy_bytes_per_s'] / 1e12:.2f} TB/s read and written."
    )


def _step(one: dict[str, Any], machine: dict[str, Any]) -> str:
    rate = one["flops"] / one["seconds"]
    share = lambda of: f"{100 * rate / of:.1f}" if of else "–"
    config, *settings = one["row"].split(" ")
    shown = ("batch_size=", "model.remat=", "model.attention=")
    further = [f"`{setting}`" for setting in settings if not setting.startswith(shown)]
    cells = [
        " ".join([config, *further]),
        one["videos"],
        one["attention"],
        one["remat"],
        f"{one['seconds']:.3f}",
        f"{one['videos'] / one['seconds']:.1f}",
        share(machine.get("peak_flops")),
        share(machine.get("product_flops")),
        f"{one['peak_bytes'] / 2**30:.1f}" if one["peak_bytes"] else "–",
        f"{one['compile_s']:.0f}",
    ]
    return _row(cells)


def _traces(traces: list[dict[str, Any]]) -> str:
    kinds = list(traces[0]["trace"]["kinds"])
    header = ["step", "ms", "ms with a kernel running", *(f"{kind} %" for kind in kinds), "placed %"]
    lines = [_row(header), "|---" * len(header) + "|"]
    for one in traces:
        trace = one["trace"]
        shares = [f"{100 * share:.1f}" for share in (*trace["kinds"].values(), trace["placed"])]
        lines.append(
            _row([one["row"], f"{1000 * trace['seconds']:.0f}", f"{1000 * trace['busy_s']:.0f}", *shares])
        )
    return "\n".join(lines)


def _kernels(one: dict[str, Any]) -> str:
    lines = [
        f"{100 * share:6.1f} % {times:8.1f} × {kind:<26}{name[:70]}"
        for share, times, kind, name in one["trace"]["top"]
    ]
    return f"Longest kernels of {one['row']}, times per step:\n\n```\n" + "\n".join(lines) + "\n```"


def _errors(errors: dict[str, dict[str, list[float]]]) -> str:
    lines = [_row(["tokens", "form", "output", "worst gradient"]), "|---|---|---|---|"]
    for length, forms in errors.items():
        lines += [_row([length, form, *(f"{error:.1e}" for error in found)]) for form, found in forms.items()]
    return (
        "Relative distance of two layers from float32 with exact products (‖x − y‖ / ‖y‖):\n\n"
        + "\n".join(lines)
    )


def _attention(found: dict[str, dict[str, float | None]]) -> str:
    forms = list(next(iter(found.values())))
    lines = [_row(["attention, forward and backward, ms", *forms]), "|---" * (1 + len(forms)) + "|"]
    lines += [
        _row([name, *("–" if of[form] is None else f"{of[form]:.2f}" for form in forms)])
        for name, of in found.items()
    ]
    return "\n".join(lines)


def _nms(found: dict[str, dict[str, float]]) -> str:
    lines = [_row(["soft-NMS of 39,000 candidates", "ms per video", "same as on the CPU %"]), "|---|---|---|"]
    for name, of in found.items():
        lines.append(_row([name, f"{of['ms_per_video']:.2f}", f"{100 * of['same_as_cpu']:.1f}"]))
    return "\n".join(lines)


def _augmentation(found: dict[str, dict[str, float]]) -> str:
    header = ["augmentation", "ms per frame of 224×224", "levels from the CPU's", "bytes that differ %"]
    lines = [_row(header), "|---|---|---|---|"]
    for name, of in found.items():
        differ = f"{100 * of['bytes_that_differ']:.3f}"
        lines.append(_row([name, f"{of['ms_per_frame']:.4f}", of["levels_from_cpu"], differ]))
    return "\n".join(lines)


def _row(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
