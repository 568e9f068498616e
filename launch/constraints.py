"""Pins the versions of this environment for machines that install later: `python -m launch.constraints > FILE`.

A machine that comes back after a preemption installs again. Without pins it would take whatever is newest that day, and
one run would continue with another version of JAX.
"""

import importlib.metadata
import json
import sys

from unloc_jax.console import show

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"  # which the pins are made for


def constraints() -> str:
    """Returns the installed versions as a constraints file of pip and uv.

    Left out: versions that no registry has (a local label such as 2.9+cpu; installed from a folder, a file or git).
    """
    pins = {}
    for distribution in importlib.metadata.distributions():
        name, version = distribution.metadata["Name"], distribution.version
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        ours = name == "unloc_jax"  # in a clone it is also found without its origin
        if name and version and "+" not in version and not origin and not ours:
            pins[name.lower().replace("_", "-")] = version
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


if __name__ == "__main__":
    show(constraints(), end="")
