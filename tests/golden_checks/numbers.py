"""The tolerances of goldens of models."""

from collections.abc import Iterable, Mapping

import numpy as np

LOGITS = 1e-4  # absolute; of logits above 10 a 1e-5th
LOSS = 1e-5  # relative
GRADIENTS = 1e-4  # of the global norm
PROGRESS = 1e-4  # relative, of what is logged over several training steps


def logits_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference, in which logits above 10 count as a share of 10.

    Raises:
      ValueError: other shapes.
    """
    ours = np.asarray(ours)
    if ours.shape != theirs.shape:
        raise ValueError(f"outputs of shape {ours.shape} instead of {theirs.shape}")
    return float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max() / 10))


def relative(ours: float, theirs: float) -> float:
    """|ours - theirs| as a share of theirs, or as it is where theirs is below a millionth."""
    distance = abs(float(ours) - float(theirs))
    return distance if abs(theirs) < 1e-6 else distance / abs(float(theirs))


def largest(differences: Iterable[float]) -> float:
    """Their maximum; NaN if one is, which is within no tolerance (Python's `max` may lose it)."""
    return float(np.max(list(differences)))


def projection(array: np.ndarray) -> float:
    """A number that depends on every entry's value and place, as the goldens have it of gradients."""
    return float((array.ravel().astype(np.float64) * np.cos(0.7 * np.arange(array.size))).sum())


def projected_difference(
    ours: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], kind: str, scale: float
) -> float:
    """Largest difference of norms and projections by the reference's names, as a share of `scale`.

    Args:
      ours: gradients or changes of parameters.
      arrays: of the golden, with KINDnorm/NAME and KINDproj/NAME.
      kind: "grad" or "delta".
      scale: the global norm.

    Raises:
      ValueError: other names, apart from parameters that the reference creates and does not use.
    """
    theirs = {key.partition("/")[2] for key in arrays if key.startswith(f"{kind}proj/")}
    unused = {name for name in theirs - ours.keys() if not arrays[f"{kind}norm/{name}"]}
    if theirs - unused != ours.keys():
        raise ValueError(f"other parameters: {sorted((theirs - unused) ^ ours.keys())[:5]}")
    differences = [0.0]
    for name, array in ours.items():
        norm = np.linalg.norm(array.astype(np.float64))
        differences.append(abs(norm - arrays[f"{kind}norm/{name}"]) / scale)
        differences.append(abs(projection(array) - arrays[f"{kind}proj/{name}"]) / scale)
    return largest(differences)
