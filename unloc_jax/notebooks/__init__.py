"""For Jupyter and Colab: `%load_ext unloc_jax.notebooks` adds `%unloc`, which runs a command in the kernel's process.

A separate process (`!unloc …`) would not get the accelerator that the kernel holds, and its failure would not stop
the notebook.
"""

from typing import Any

from unloc_jax.notebooks.live_charts import LiveCharts

__all__ = ["LiveCharts", "load_ipython_extension"]


def load_ipython_extension(shell: Any) -> None:
    """Adds the magic to an IPython shell; called by %load_ext."""
    from unloc_jax.commands.common import quiet
    from unloc_jax.notebooks.magic import run_command

    quiet()
    shell.register_magic_function(run_command, "line", "unloc")
