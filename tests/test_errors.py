import os
import subprocess
import sys

import pytest

from tests.tiny_runs import REPOSITORY

PROGRAM = """
import jax
from unloc_jax.errors import exit_status
try:
    {call}
except BaseException as error:
    print(exit_status(error))
"""


@pytest.mark.parametrize("platforms", ["tpu", "cuda", "gpu", "rocm", "nonsense", "cpu,nonsense"])
@pytest.mark.parametrize("call", ["jax.devices()", "jax.jit(lambda x: x + 1)(1.0)"])
def test_a_platform_that_does_not_start_is_the_users_error(platforms, call):
    """Launchers do not retry status 2."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)],
        env=os.environ | {"JAX_PLATFORMS": platforms, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    if not done.stdout:
        pytest.skip("this platform starts here")
    assert done.stdout.startswith(
        f"(2, \"unloc: error: JAX_PLATFORMS='{platforms}' does not start (unset it?): "
    )
    assert done.stdout.count("\\n") == 0
