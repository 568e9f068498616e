"""Numbers as files hold them."""

import numpy as np
from numpy.typing import ArrayLike


def shortest(values: ArrayLike) -> np.ndarray:
    """float32 → the float64 of the shortest decimals that mean the same float32; what is float64 stays.

    24.3 of an annotation file is 24.299999 as float32, and 24.3 again after this: nothing is lost by writing it, and a
    metric of what is written is the metric of the values here.
    """
    array = np.asarray(values)
    return array.astype(np.str_).astype(np.float64) if array.dtype == np.float32 else array.astype(np.float64)
