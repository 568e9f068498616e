"""Keeps compiled programs on disk: what one command has compiled, the next one reads."""

import functools
import hashlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

# The least recently used programs are removed beyond this. One of a large model takes a few MB.
_MOST_BYTES = 2 << 30
# JAX's settings; its environment variables are these names in capitals.
_FOLDER, _SIZE = "jax_compilation_cache_dir", "jax_compilation_cache_max_size"
_ENABLED, _OFF = "jax_enable_compilation_cache", ("n", "no", "f", "false", "off", "0")


def keep_compiled_programs() -> None:
    """Makes JAX keep what it compiles for more than a second, at most 2 GiB, in a folder of the user's.

    That is ~/.cache/unloc_jax/compiled (or in XDG_CACHE_HOME). JAX finds a program again by its operations, its
    compiler's version and flags, and the kind of device. Does nothing where the user has chosen a folder
    (JAX_COMPILATION_CACHE_DIR) or none (JAX_ENABLE_COMPILATION_CACHE=false), or where the folder cannot be written.
    """
    if "jax" in sys.modules:  # a notebook's; otherwise JAX reads the variables when something imports it
        settings: Any = sys.modules["jax"].config
        if settings.jax_compilation_cache_dir or not settings.jax_enable_compilation_cache:
            return
        choose = settings.update
    else:
        if os.environ.get(_FOLDER.upper()) or os.environ.get(_ENABLED.upper(), "").lower() in _OFF:
            return
        choose = lambda name, value: os.environ.update({name.upper(): str(value)})
    try:
        folder = _caches() / "unloc_jax" / "compiled" / _machine()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # there is no home
        return
    if os.access(folder, os.W_OK):
        choose(_SIZE, _MOST_BYTES)
        choose(_FOLDER, str(folder))


def _caches() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else Path.home() / ".cache"


@functools.cache
def _machine() -> str:
    """Returns a name of this kind of processor: programs use instructions that another one in a cluster may lack."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    known = sorted(
        {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    )
    digest = hashlib.sha256("\n".join(known or lines[:1]).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:12]}"
