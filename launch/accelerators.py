"""Accelerators by name: the clouds' names for the same chips, and the chips per machine."""

import dataclasses
import math
import re

from unloc_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class _Tpu:
    gcloud: str  # prefix of --accelerator-type
    counted: int  # what that type's number counts: 1 chips, 2 TensorCores per chip
    runtime: str  # image of TPU VMs
    gke: str  # label cloud.google.com/gke-tpu-accelerator
    dimensions: int  # of a topology
    one_host: int  # chips of the largest slice on one machine; larger slices have 4 per machine


@dataclasses.dataclass(frozen=True)
class _Gpu:
    gke: str  # label cloud.google.com/gke-accelerator
    sky: str  # SkyPilot's name


_TPUS = {
    "v4": _Tpu("v4", 2, "tpu-ubuntu2204-base", "tpu-v4-podslice", 3, 4),
    "v5e": _Tpu("v5litepod", 1, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", 2, 8),
    "v5p": _Tpu("v5p", 2, "v2-alpha-tpuv5", "tpu-v5p-slice", 3, 4),
    "v6e": _Tpu("v6e", 1, "v2-alpha-tpuv6e", "tpu-v6e-slice", 2, 8),
}
_GPUS = {
    "l4": _Gpu("nvidia-l4", "L4"),
    "a100": _Gpu("nvidia-tesla-a100", "A100"),
    "a100-80gb": _Gpu("nvidia-a100-80gb", "A100-80GB"),
    "h100": _Gpu("nvidia-h100-80gb", "H100"),
    "h200": _Gpu("nvidia-h200-141gb", "H200"),
    "b200": _Gpu("nvidia-b200", "B200"),
}


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """The chips of one slice (TPU), or of one machine (GPU).

    Attributes:
      name: as in a job file: "v5e:4x4", "h100:8".
      is_tpu: False for GPUs.
      chips: number in the slice or the machine.
      hosts: machines of the slice; 1 for GPUs.
      topology: "4x4"; None for GPUs.
      gke_label: value of GKE's node label.
      gcloud_type: `--accelerator-type` of a TPU VM; None for GPUs.
      runtime: `--runtime-version` of a TPU VM; None for GPUs.
      sky: SkyPilot's `accelerators`.
      env_file: name in launch/env/.
    """

    name: str
    is_tpu: bool
    chips: int
    hosts: int
    topology: str | None
    gke_label: str
    gcloud_type: str | None
    runtime: str | None
    sky: str
    env_file: str

    @property
    def chips_per_host(self) -> int:
        return self.chips // self.hosts


def accelerator(name: str) -> Accelerator:
    """Parses "v5e:4x4" (a TPU and its topology) or "h100:8" (GPUs per machine).

    Raises:
      UserError: the accelerator or topology is unknown.
    """
    kind, _, size = name.partition(":")
    if kind in _GPUS and re.fullmatch(r"[1-9]\d?", size):
        gpu = _GPUS[kind]
        return Accelerator(name, False, int(size), 1, None, gpu.gke, None, None, f"{gpu.sky}:{size}", "gpu")
    if kind in _TPUS and re.fullmatch("x".join([r"[1-9]\d*"] * _TPUS[kind].dimensions), size):
        tpu = _TPUS[kind]
        chips = math.prod(int(side) for side in size.split("x"))
        hosts = 1 if chips <= tpu.one_host else chips // 4
        if chips in (1, 2, 4, 8) or chips % 4 == 0:
            gcloud_type = f"{tpu.gcloud}-{chips * tpu.counted}"
            return Accelerator(
                name, True, chips, hosts, size, tpu.gke, gcloud_type, tpu.runtime, f"tpu-{gcloud_type}", "tpu"
            )
    raise UserError(
        f"accelerator = {name!r}: give a TPU and its topology (v5e:4x4, v6e:4x4, v5p:4x4x4, v4:2x2x4) or GPUs and "
        f"how many a machine has (h100:8; known: {', '.join(_GPUS)})."
    )
