"""Independent references for the tests of this folder.

`GOLDENS`: made by running Scenic's UnLoc (July 2026, CPU) on random inputs; committed.
`ORACLES`: predictions with the scores of the official evaluators; beside the repository, not always there.
`ANNOTATIONS`: the datasets' own files, likewise.
"""

import json
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
GOLDENS = np.load(REPOSITORY / "tests" / "goldens" / "metrics.npz")
ORACLES = REPOSITORY.parent / "shared" / "oracles"

ANNOTATIONS = REPOSITORY.parent / "shared" / "annotations"
# DETAD's types of errors, in the order of ours.
DETAD_NAMES = (
    "True Positive",
    "Double Detection Err",
    "Wrong Label Err",
    "Localization Err",
    "Confusion Err",
    "Background Err",
)

needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason="no ../shared/oracles beside the repository")


def _sorts_ties_as_avx512():
    """Whether ties come out of NumPy's argsort as on CPUs with AVX-512, where the oracles were made."""
    order = (np.arange(1000) * 7919 % 10 / 10).argsort()
    return (order * np.arange(1000)).sum() == 248951030


needs_the_oracles_processor = pytest.mark.skipif(
    not _sorts_ties_as_avx512(), reason="the official score depends on the CPU: 30 % of scores are tied"
)


def load_json(path: str):
    return json.loads((ORACLES / path).read_text())
