"""Fixtures that several rooms share; made once, because every new shape costs a compilation."""

import os
import re
from typing import Any

import hypothesis
import pytest

from tests import compiling, disturbance
from tests.tiny import random_params, tiny_task
from tests.tiny_runs import (  # noqa: F401  fixtures
    activities_dataset,
    captions_dataset,
    compilation_cache,
    config_file,
    tiny_videos,
    trained,
    trained_on_classes,
    unloc,
)
from unloc_jax.tasks import Task

os.environ["XLA_FLAGS"] = compiling.QUICKLY
# Commands that tests run leave nothing in the user's folder of compiled programs.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

# The same examples every time, and none that fails because the machine is busy.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--perturb",
        type=float,
        metavar="RELATIVE",
        help="disturb what JAX computes by so much (1e-6), as if this were another processor",
    )
    parser.addoption(
        "--may-skip",
        metavar="REGEX",
        help="fail if a test is skipped for a reason that this does not match",
    )


def pytest_configure(config: pytest.Config) -> None:
    if relative := config.getoption("--perturb"):
        disturbance.perturb(relative)


def pytest_sessionfinish(session: pytest.Session) -> None:
    may_skip = session.config.getoption("--may-skip")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if may_skip is None or reporter is None:
        return
    reasons = {str(report.longrepr[2]) for report in reporter.stats.get("skipped", [])}
    if unexpected := [reason for reason in reasons if not re.search(may_skip, reason)]:
        reporter.write_line(f"\nskipped, but must run here: {unexpected}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def moment_retrieval() -> tuple[Task, Any]:
    """A tiny task with random parameters."""
    task = tiny_task("moment_retrieval")
    return task, random_params(task)


@pytest.fixture(scope="session")
def action_localization(moment_retrieval) -> tuple[Task, Any]:
    """A tiny task; one model serves all tasks, so the parameters are the same."""
    return tiny_task("temporal_action_localization"), moment_retrieval[1]
