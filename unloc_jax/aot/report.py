"""What a compiled step costs: memory, arithmetic, messages and an estimate of time, as numbers and as text."""

import dataclasses
from typing import Any

from unloc_jax.aot.collectives import Collective, collectives
from unloc_jax.aot.hlo import Program
from unloc_jax.aot.step import Compiled
from unloc_jax.training.flops import Chip

# Cycles per second of a TPU's core by the name of its chip: peak FLOP/s divided by what its matrix units do per cycle.
_CLOCK = {"TPU v4": 1.05e9, "TPU v5e": 1.5e9, "TPU v5p": 1.75e9, "TPU v6e": 1.75e9}


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device.

    Attributes:
      arguments: state and batch.
      outputs: the new state and metrics.
      donated: outputs that take the arguments' place.
      temporaries: what is set aside for everything in between.
      code: the program.
      peak: the most that is in use at a time of arguments, outputs and temporaries; 0 where the compiler says nothing.
    """

    arguments: int
    outputs: int
    donated: int
    temporaries: int
    code: int
    peak: int

    @classmethod
    def of(cls, program: Any) -> "Memory":
        """Of what JAX's `compile()` returns."""
        found = program.memory_analysis()
        return cls(
            found.argument_size_in_bytes,
            found.output_size_in_bytes,
            found.alias_size_in_bytes,
            found.temp_size_in_bytes,
            found.generated_code_size_in_bytes,
            getattr(found, "peak_memory_in_bytes", 0),
        )

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.donated + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one step.

    Attributes:
      memory: of one device; None where the compiler refused because it is too large.
      model_flops: over all devices, what the mathematics needs.
      executed_flops: over all devices, with recomputation.
      collectives: by kind, of one device.
      seconds: lower bounds of the step's time by what limits it; {} for a chip that is not known.
    """

    memory: Memory | None
    model_flops: float
    executed_flops: float
    collectives: list[Collective]
    seconds: dict[str, float]

    @property
    def step_seconds(self) -> float | None:
        """If what limits the step hides everything else."""
        return max(self.seconds.values()) if self.seconds else None

    def mfu(self, chip: Chip, num_devices: int) -> float | None:
        """Model FLOPs utilisation in [0, 1] at that time."""
        if self.step_seconds is None:
            return None
        return self.model_flops / (self.step_seconds * chip.peak_flops * num_devices)


def cost(compiled: Compiled, model_flops: float, num_devices: int, chip: Chip | None) -> Cost:
    """Reads a compiled step."""
    if compiled.program is None:
        return Cost(None, model_flops, compiled.executed_flops, [], {})
    memory, program = Memory.of(compiled.program), Program(compiled.text)
    messages = collectives(program, num_devices)
    seconds = {}
    if chip is not None:
        seconds["matrix units"] = compiled.executed_flops / (chip.peak_flops * num_devices)
        if chip.name in _CLOCK:
            seconds["compiler"] = program.cycles() / _CLOCK[chip.name]
        if chip.link_bandwidth:  # around a ring, both ways
            seconds["interconnect"] = sum(one.sent_bytes for one in messages) / (2 * chip.link_bandwidth)
    return Cost(memory, model_flops, compiled.executed_flops, messages, seconds)


def as_text(compiled: Compiled, found: Cost, device_kind: str, num_devices: int, chip: Chip | None) -> str:
    """A table for the terminal."""
    axes = " × ".join(f"{axis} {size}" for axis, size in compiled.mesh.items() if size > 1) or "one device"
    lines = [f"{' + '.join(compiled.tasks)}: {num_devices} × {chip.name if chip else device_kind} as {axes}"]
    row = lambda name, value, note="": lines.append(f"  {name:<32}{value:>12}  {note}".rstrip())
    if found.memory is None:
        row("does not fit", "", compiled.too_large)
    else:
        memory = found.memory
        row("arguments (state, batch)", _gigabytes(memory.arguments))
        row(
            "outputs",
            _gigabytes(memory.outputs),
            f"of which {_gigabytes(memory.donated)} take arguments' place",
        )
        used = f"{_gigabytes(memory.peak)} in use at most, with the arguments" if memory.peak else ""
        row("temporaries", _gigabytes(memory.temporaries), used)
        row("program", _gigabytes(memory.code))
        limit = f"of {_gigabytes(chip.memory_bytes)}: {_verdict(memory, chip)}" if chip else ""
        row("memory per device", _gigabytes(memory.total), limit)
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
    mfu = found.mfu(chip, num_devices) if chip else None
    if found.step_seconds is not None and mfu is not None:
        row("estimated step", f"{1000 * found.step_seconds:.4g} ms", f"the largest; MFU {100 * mfu:.0f} %")
    row("traced and compiled in", f"{compiled.seconds:.0f} s")
    return "\n".join(lines)


def _verdict(memory: Memory, chip: Chip) -> str:
    return "fits" if memory.total <= chip.memory_bytes else "does not fit"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.3f} GB"
