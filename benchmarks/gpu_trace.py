"""Breaks down the time of a traced step by kind of work, reading the profiler's file with JAX alone."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import jax

KINDS = ("products", "attention", "copies", "elementwise and reductions")
_PRODUCT = re.compile(r"gemm|nvjet|cutlass|cublas|xmma|wgmma|\bdot|_dot|conv(?!ert)|matmul", re.IGNORECASE)
_COPY = re.compile(r"memcpy|memset|copy|transpose|concatenate|slice|\bpad|bitcast", re.IGNORECASE)
_FUSED_ATTENTION = re.compile(r"sdpa|fmha|flash", re.IGNORECASE)
# The scope of an instruction in attention that is neither of the two products with weights around it.
_IN_ATTENTION = re.compile(r"\battention/(?!qkv/|out/)")
# CPU events that contain other events.
_CONTAINER = re.compile(r"^(while|call|conditional)\b")


def summary(file: Path, steps: int, program: str) -> dict[str, Any]:
    """Summarises a trace.

    Args:
      file: .xplane.pb, as the profiler writes it.
      steps: number of traced steps.
      program: the compiled program's text; its metadata maps instructions to parts of the model.

    Returns:
      Per step: "seconds" from the first kernel to the last, "busy_s" with a kernel running; "kinds", the share of each
      of KINDS in all kernels' time; "placed", the share of kernels whose part of the model is known (attention by plain
      products counts as products elsewhere); "top", the longest kernels as (share, times per step, kind, name).

    Raises:
      ValueError: the trace contains nothing of the program.
    """
    scopes = dict(re.findall(r'%?([\w.\-]+) = [^\n]*metadata=\{[^}\n]*op_name="([^"\n]*)"', program))
    spans, kinds, kernels, counts = [], Counter[str](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    placed = 0.0
    for name, instruction, scope, start, duration in _events(file):
        if instruction.startswith("end: ") or _CONTAINER.match(instruction):
            continue
        scope = scopes.get(instruction, scope)
        kind = _kind(name, instruction, scope)
        placed += duration if scope else 0.0
        spans.append((start, start + duration))
        kinds[kind] += duration
        kernels[kind, name] += duration
        counts[kind, name] += 1
    if not spans:
        raise ValueError("the trace has no kernels")
    total = sum(kinds.values()) or 1
    return {
        "seconds": (max(end for _, end in spans) - min(start for start, _ in spans)) / 1e9 / steps,
        "busy_s": _union(spans) / 1e9 / steps,
        "kinds": {kind: kinds[kind] / total for kind in KINDS},
        "placed": placed / total,
        "top": [
            (duration / total, counts[kernel] / steps, *kernel)
            for kernel, duration in kernels.most_common(15)
        ],
    }


def _events(file: Path) -> list[tuple[str, str, str, float, float]]:
    """Returns the events on the GPU, or without one those that XLA ran on the CPU: (kernel, instruction, scope in the
    model or "", start in ns, duration in ns)."""
    found = []
    planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    for plane in devices or planes:
        lines = list(plane.lines)
        streams = [line for line in lines if line.name.startswith("Stream")] if devices else lines
        for line in streams or lines:
            for event in line.events:
                stats = dict(event.stats)
                instruction, scope = str(stats.get("hlo_op", "")), str(stats.get("name", ""))
                if devices or instruction:
                    found.append((event.name, instruction, scope, event.start_ns, event.duration_ns))
    return found


def _kind(name: str, instruction: str, scope: str) -> str:
    if _FUSED_ATTENTION.search(name) or _IN_ATTENTION.search(scope):
        return "attention"
    if any(_PRODUCT.search(of) for of in (name, instruction)):
        return "products"
    if any(_COPY.search(of) for of in (name, instruction)):
        return "copies"
    return "elementwise and reductions"


def _union(spans: list[tuple[float, float]]) -> float:
    covered, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered
