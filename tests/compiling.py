"""Flags with which this machine's compiler is quick: tests compile far longer than they compute.

XLA reads them when the first array is created. Whatever measures what users run leaves them out.
"""

from importlib.metadata import version

QUICKLY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# The old emitters take half the time; later versions have only the new ones.
if version("jax").startswith("0.10"):
    QUICKLY += " --xla_cpu_use_fusion_emitters=false"


def devices(count: int) -> str:
    """So many devices are pretended."""
    return f"--xla_force_host_platform_device_count={count}"
