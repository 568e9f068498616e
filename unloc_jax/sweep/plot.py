"""The plot of a sweep."""

from collections.abc import Iterable
from pathlib import Path

from unloc_jax.errors import UserError
from unloc_jax.sweep.description import Sweep
from unloc_jax.sweep.results import Run, summaries
from unloc_jax.whole_writes import cannot_write, replacing

_ROW_INCHES, _PANEL_INCHES = 0.35, 3.2


def save_plot(sweep: Sweep, runs: Iterable[Run], file: Path) -> None:
    """Draws one panel per metric: every seed as a dot, means as bars, 95 % confidence intervals as lines.

    Args:
      sweep: its rows and metrics.
      runs: that have finished.
      file: a picture; its ending gives the format.

    Raises:
      ModuleNotFoundError: matplotlib is missing.
      UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and asks for a screen

    table = summaries(sweep, runs)
    names = list(table)
    height = 1.0 + _ROW_INCHES * len(names)
    figure = Figure(figsize=(_PANEL_INCHES * len(sweep.metrics) + 2.0, height), layout="constrained")
    panels = figure.subplots(1, len(sweep.metrics), sharey=True, squeeze=False)[0]
    for number, (panel, path) in enumerate(zip(panels, sweep.metrics)):
        for place, name in enumerate(names):
            found = table[name][number]
            if found is None:
                continue
            panel.barh(place, found.mean, color="#c9d7ea", height=0.7)
            panel.plot(found.values, [place] * len(found.values), "o", color="#1f3b63", markersize=4)
            if len(found.values) > 1:
                panel.errorbar(found.mean, place, xerr=found.interval, color="#c0392b", capsize=3)
        panel.set_title(path.rpartition("/")[2], fontsize=10)
        panel.set_xlim(left=0)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    try:
        with replacing(file) as opened:
            figure.savefig(opened, format=file.suffix.removeprefix("."))
    except OSError as error:
        raise UserError(cannot_write(file, error)) from error
