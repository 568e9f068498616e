"""Where the tests of this folder get independent numbers from.

`GOLDENS`: made by running Scenic's UnLoc (July 2026, CPU) on random inputs; committed.
`ORACLES`: predictions with the scores of the official evaluators; beside the repository, not always there.
"""

import json
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
GOLDENS = np.load(REPOSITORY / "tests" / "goldens" / "metrics.npz")
ORACLES = REPOSITORY.parent / "shared" / "oracles"

needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason="no ../shared/oracles beside the repository")


def load_json(path: str):
    return json.loads((ORACLES / path).read_text())


def load_json_lines(path: str) -> list:
    return [json.loads(line) for line in (ORACLES / path).read_text().splitlines()]
