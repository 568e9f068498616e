"""Reports what a compiled step costs (memory, arithmetic, communication, estimated time), as numbers and as text."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from unloc_jax.aot.collectives import Collective, collectives
from unloc_jax.aot.hlo import Program
from unloc_jax.aot.memory import Memory
from unloc_jax.aot.step import Compiled
from unloc_jax.training.flops import Chip

# Clock rates of TPU cores in Hz, by the chip's name: peak FLOP/s divided by FLOPs of the matrix units per cycle.
_CLOCK = {"TPU v4": 1.05e9, "TPU v5e": 1.5e9, "TPU v5p": 1.75e9, "TPU v6e": 1.75e9}


@dataclasses.dataclass(frozen=True)
class Cost:
    """The costs of one step.

    Attributes:
      memory: Of one device; None if the compiler refused because it is too large.
      model_flops: FLOPs over all devices that the mathematics needs.
      executed_flops: FLOPs over all devices, including recomputation.
      collectives: Of one device, by kind.
      seconds: Lower bounds of the step's time, by what limits it; {} for an unknown chip.
    """

    memory: Memory | None
    model_flops: float
    executed_flops: float
    collectives: list[Collective]
    seconds: dict[str, float]

    @property
    def step_seconds(self) -> float | None:
        """Time of the step in seconds if the tightest limit hides all others."""
        return max(self.seconds.values()) if self.seconds else None

    def mfu(self, chip: Chip, num_devices: int) -> float | None:
        """Returns the model FLOPs utilisation in [0, 1] at that time."""
        if self.step_seconds is None:
            return None
        return self.model_flops / (self.step_seconds * chip.peak_flops * num_devices)


def cost(compiled: Compiled, model_flops: float, chip: Chip | None) -> Cost:
    """Computes the costs of a compiled step."""
    if compiled.memory is None:
        return Cost(None, model_flops, compiled.executed_flops, [], {})
    program = Program(compiled.text)
    messages = collectives(program, compiled.num_devices)
    seconds = {}
    if chip is not None:
        seconds["matrix units"] = compiled.executed_flops / (chip.peak_flops * compiled.num_devices)
        if chip.name in _CLOCK:
            seconds["compiler"] = program.cycles() / _CLOCK[chip.name]
        if chip.link_bandwidth:  # around a ring, both ways
            seconds["interconnect"] = sum(one.sent_bytes for one in messages) / (2 * chip.link_bandwidth)
    return Cost(compiled.memory, model_flops, compiled.executed_flops, messages, seconds)


def heading(tasks: Sequence[str], mesh: Mapping[str, int], device_kind: str, chip: Chip | None) -> str:
    """Returns a line with tasks and devices."""
    axes = " × ".join(f"{axis} {size}" for axis, size in mesh.items() if size > 1) or "one device"
    return f"{' + '.join(tasks)}: {math.prod(mesh.values())} × {chip.name if chip else device_kind} as {axes}"


def memory_as_text(memory: Memory | str, chip: Chip | None) -> str:
    """Returns rows for the terminal; `memory` is a text, the reason, if the step does not fit."""
    if isinstance(memory, str):
        return _row("does not fit", "", memory)
    taken = f"of which {_gigabytes(memory.donated)} take arguments' place"
    used = f"{_gigabytes(memory.peak)} in use at most, with the arguments" if memory.peak else ""
    limit = ""
    if chip:
        fits = "fits" if memory.total <= chip.memory_bytes else "does not fit"
        limit = f"of {_gigabytes(chip.memory_bytes)}: {fits}"
    rows = [
        _row("arguments (state, batch)", _gigabytes(memory.arguments)),
        _row("outputs", _gigabytes(memory.outputs), taken),
        _row("temporaries", _gigabytes(memory.temporaries), used),
        *([_row("program", _gigabytes(memory.code))] if memory.code else []),
        _row("memory per device", _gigabytes(memory.total), limit),
    ]
    return "\n".join(rows)


def as_text(compiled: Compiled, found: Cost, device_kind: str, chip: Chip | None) -> str:
    """Returns a table for the terminal."""
    lines = [heading(compiled.tasks, compiled.mesh, device_kind, chip)]
    row = lambda *cells: lines.append(_row(*cells))
    lines.append(memory_as_text(found.memory or compiled.too_large, chip))
    row("FLOPs of the model per step", f"{found.model_flops / 1e12:.4g} T", "over all devices")
    ratio = found.executed_flops / found.model_flops
    row("executed", f"{found.executed_flops / 1e12:.4g} T", f"× {ratio:.2f} by recomputation")
    for one in found.collectives:
        row(
            one.kind, f"{one.count} ×", f"{one.array_bytes / 1e6:.4g} MB, sends {one.sent_bytes / 1e6:.4g} MB"
        )
    if not found.collectives and found.memory is not None:
        row("collectives", "none")
    names = {
        "matrix units": "executed FLOPs at the chip's peak",
        "compiler": "sum of what the compiler expects of each instruction",
        "interconnect": "bytes sent around a ring",
    }
    for limit, value in found.seconds.items():
        row(f"time, {limit}", f"{1000 * value:.4g} ms", names[limit])
    mfu = found.mfu(chip, compiled.num_devices) if chip else None
    if found.step_seconds is not None and mfu is not None:
        row("estimated step", f"{1000 * found.step_seconds:.4g} ms", f"the largest; MFU {100 * mfu:.0f} %")
    row("traced and compiled in", f"{compiled.seconds:.0f} s")
    return "\n".join(lines)


def _row(name: str, value: str, note: str = "") -> str:
    return f"  {name:<32}{value:>12}  {note}".rstrip()


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.3f} GB"
