"""The result of the check of one golden."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Result:
    """One line of the report; None where the golden holds no such number.

    Attributes:
      name: the golden's file without its ending.
      logits: largest difference of an output.
      loss: difference of the loss.
      gradients: largest difference of a gradient's projection, as a share of the gradients' global norm.
      passed: everything is within tolerance.
      note: what a reader must know, such as a defect of the reference that the check reproduces.
    """

    name: str
    logits: float | None
    loss: float | None
    gradients: float | None
    passed: bool
    note: str = ""
