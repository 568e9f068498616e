"""Waits for the other processes of a run, and exchanges texts, through JAX's coordination service; needs no device.

JAX gives the service's client no public name. This is the only file of ours that uses a private one, and without it
the run continues: with a warning, and without all this.
"""

import functools
import warnings
from typing import Any

import jax


def wait_for_all(barrier: str, timeout_s: int) -> None:
    """Waits until all processes of the run have called this; returns immediately in a run of one process.

    Args:
      barrier: name of this wait; each may be used once.
      timeout_s: how long to wait.

    Raises:
      jax.errors.JaxRuntimeError: others did not come in time, or are gone.
    """
    if jax.process_count() > 1 and (found := client()) is not None:
        found.wait_at_barrier(barrier, timeout_s * 1000)


def put(key: str, value: str) -> None:
    """Shows a text to all processes; needs a `client`. Each key may be used once."""
    client().key_value_set(key, value)


def get(key: str, timeout_s: int) -> str:
    """Returns a text that a process has put, or will soon; needs a `client`.

    Raises:
      jax.errors.JaxRuntimeError: nobody did in time, or others are gone.
    """
    return client().blocking_key_value_get(key, timeout_s * 1000)


def client() -> Any:
    """Returns the client of JAX's coordination service; None without one, and where this JAX keeps it elsewhere."""
    try:
        from jax._src import distributed

        found = distributed.global_state.client
        return found if found is None or callable(found.wait_at_barrier) else None
    except (ImportError, AttributeError) as error:
        _warn(str(error))
        return None


@functools.cache
def _warn(reason: str) -> None:
    warnings.warn(
        f"JAX {jax.__version__} keeps its coordination client elsewhere ({reason}): processes do not wait for each "
        "other before their first collective, which on CPUs must begin within 30 s in all of them, nor at an error. "
        "Settings, versions and data are not compared.",
        stacklevel=4,
    )
