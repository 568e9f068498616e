"""Thresholds of tIoU as text: "0.1:0.1:0.5" (first, step, last) or "0.3,0.5,0.7"."""

import numpy as np

from unloc_jax.errors import UserError


def thresholds_of(tiou: str | None, default: np.ndarray, name: str = "--tiou") -> np.ndarray:
    """Parses --tiou, "0.1:0.1:0.5" or "0.3,0.5,0.7", to float64 [T]; a range is NumPy's linspace, as in evaluators.

    Raises:
      UserError: it has another form, or a threshold of more than two digits, or outside of 0 to 1.
    """
    if tiou is None:
        return default
    is_range = ":" in tiou
    try:
        numbers = [float(part) for part in tiou.split(":" if is_range else ",")]
        if is_range:
            low, step, high = numbers
            if not step >= 0.01:
                raise ValueError
            numbers = np.linspace(low, high, round((high - low) / step) + 1).tolist()
            if abs(low + step * (len(numbers) - 1) - high) > 1e-6:
                raise ValueError
    except (ValueError, ZeroDivisionError, OverflowError):
        numbers = []
    right = all(0 < number <= 1 and abs(number - round(number, 2)) < 1e-9 for number in numbers)
    if not numbers or not right or sorted(set(numbers)) != numbers:
        raise UserError(
            f"{name}={tiou}: thresholds look like 0.1:0.1:0.5 (first, step, last) or 0.3,0.5,0.7: rising, above 0 and"
            " up to 1, of at most two digits"
        )
    return np.array(numbers)
