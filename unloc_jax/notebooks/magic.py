"""The magic `%unloc`."""

import shlex
import subprocess
import sys
from collections.abc import Sequence

from unloc_jax.errors import EXIT_INTERRUPTED, UserError

# These choose JAX's platform for the whole process, and the notebook would lose its accelerator.
_IN_A_PROCESS_OF_THEIR_OWN = ("compile",)


def run_command(line: str) -> None:
    """Runs `unloc LINE`, with the words split as a shell does.

    IPython fills in {expressions} and $names before.

    Raises:
      UserError: the command failed; it ends a notebook that runs from top to bottom.
      KeyboardInterrupt: it was interrupted.
    """
    from unloc_jax.cli import main

    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UserError(f"%unloc {line}: {error}.") from error
    try:
        status = _in_child(words) if words[:1] and words[0] in _IN_A_PROCESS_OF_THEIR_OWN else main(words)
    except SystemExit as stopped:  # of argparse: 0 after --help
        status = stopped.code if isinstance(stopped.code, int) else 1
    if status == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise UserError(f"`unloc {' '.join(words[:2])}` failed; the reason is above.")


def _in_child(words: Sequence[str]) -> int:
    command = [sys.executable, "-m", "unloc_jax.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            print(line, end="", flush=True)
    return child.returncode
