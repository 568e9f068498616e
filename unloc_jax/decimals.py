"""Converts numbers to the decimals that files hold."""

import numpy as np
from numpy.typing import ArrayLike


def shortest(values: ArrayLike) -> np.ndarray:
    """Converts float32 to the float64 with the shortest decimals of the same float32; keeps float64.

    24.3 in an annotation file is 24.299999 as float32, and 24.3 again after this: writing it loses nothing, and a
    metric of the written numbers equals that of the values here.
    """
    array = np.asarray(values)
    return array.astype(np.str_).astype(np.float64) if array.dtype == np.float32 else array.astype(np.float64)
