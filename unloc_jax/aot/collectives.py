"""Counts the communication between devices in one call of a compiled program."""

import dataclasses
import re

from unloc_jax.aot.hlo import Instruction, Program, num_bytes

# What each of n devices in a ring sends, as a fraction of the complete array (the result of an all-gather, the operand
# of a reduce-scatter). An all-reduce passes everything around twice.
_SENT = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "ragged-all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
    "collective-broadcast": lambda n: 1.0,
}
_CHANNEL = re.compile(r"channel_id=(\d+)")
_NAME = re.compile(r'op_name="([^"]*)"')
_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """The collectives of one kind.

    Attributes:
      kind: Such as "all-reduce".
      count: Number of collectives that one device takes part in.
      array_bytes: Bytes of the arrays that are reduced, gathered or exchanged.
      sent_bytes: Bytes that one device sends if they go around a ring.
    """

    kind: str
    count: int
    array_bytes: float
    sent_bytes: float


def collectives(program: Program, num_devices: int) -> list[Collective]:
    """Returns the collectives in one call of the program by kind; those in loops count once per iteration."""
    # To hide a collective, the TPU compiler spreads it over several fusions with the same channel, size and name.
    single: dict[tuple, tuple[Instruction, int]] = {}
    for instruction, runs in program.instructions():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in _SENT:
            continue
        channel, name = _CHANNEL.search(instruction.rest), _NAME.search(instruction.rest)
        key = (
            kind,
            channel[1] if channel else instruction.name,
            num_bytes(instruction.type),
            name[1] if name else "",
        )
        single[key] = max(single.get(key, (instruction, 0)), (instruction, runs), key=lambda item: item[1])
    totals: dict[str, Collective] = {}
    for instruction, runs in single.values():
        kind = instruction.opcode.removesuffix("-start")
        size, group = _array_bytes(instruction, kind), _group_size(instruction.rest, num_devices)
        if kind == "reduce-scatter":
            size *= group
        before = totals.get(kind, Collective(kind, 0, 0.0, 0.0))
        totals[kind] = Collective(
            kind,
            before.count + runs,
            before.array_bytes + runs * size,
            before.sent_bytes + runs * size * _SENT[kind](group),
        )
    return sorted(totals.values(), key=lambda one: -one.sent_bytes)


def _array_bytes(instruction: Instruction, kind: str) -> int:
    """Returns the bytes of the result; that of a "-start" instruction also holds operands, counters and the like."""
    if not instruction.opcode.endswith("-start") or kind == "all-reduce":
        return num_bytes(instruction.type)
    arrays = re.findall(r"[a-z]+\d+\[[\d,]*\]", instruction.type)
    return max((num_bytes(array) for array in arrays), default=0)


def _group_size(attributes: str, num_devices: int) -> int:
    """Returns the number of devices in a group, in any of XLA's three notations; all devices if there are no groups."""
    listed = _LISTED.search(attributes)
    if listed:
        return len(listed[1].split(","))
    iota = _IOTA.search(attributes)
    if iota:
        return int(iota[1])
    mesh = _MESH.search(attributes)
    if mesh:
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
        group = 1
        for axis in re.findall(r"'([^']+)'", mesh[2]):
            group *= int(sizes[axis])
        return group
    return num_devices
