"""Independent references for the tests of this folder.

`targets.npz`, `nms.npz`, `postprocess.npz`: made by running Scenic's UnLoc (July 2026, CPU) on random inputs;
committed.
`ORACLES`: cases of TensorFlow's soft-NMS; beside the repository, not always there.
"""

from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
ORACLES = REPOSITORY.parent / "shared" / "oracles"

needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason="no ../shared/oracles beside the repository")


def load_goldens(name: str) -> dict[str, dict[str, np.ndarray]]:
    """The cases of tests/goldens/NAME.npz, whose keys are CASE/FIELD."""
    cases: dict[str, dict[str, np.ndarray]] = {}
    for key, value in np.load(REPOSITORY / "tests" / "goldens" / f"{name}.npz").items():
        case, field = key.split("/", 1)
        cases.setdefault(case, {})[field] = value
    return cases
