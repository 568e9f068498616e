"""Tables, intervals and plots of sweeps."""

import json
import math
import re

import numpy as np
import pytest
import scipy.stats

from unloc_jax.errors import UserError
from unloc_jax.sweep.description import Row, Sweep
from unloc_jax.sweep.results import Run, metric_of, summary, to_json, to_markdown

ROWS = (Row("early", {}, "c.py", {}), Row("late", {"fusion": "late"}, "c.py", {"model.fusion.type": "late"}))
SWEEP = Sweep(ROWS, (0, 1), ("recall/model/mIoU", "recall/model/R1@0.5"), "test")
RUNS = [
    Run(ROWS[0], 0, {"recall/model/mIoU": 40.0, "recall/model/R1@0.5": 50.0}, 2.0),
    Run(ROWS[0], 1, {"recall/model/mIoU": 44.0, "recall/model/R1@0.5": 50.0}, None),
]


@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_intervals_are_students(count):
    values = np.random.default_rng(count).normal(50, 5, count)
    low, high = scipy.stats.t.interval(0.95, count - 1, np.mean(values), scipy.stats.sem(values))
    found = summary(values.tolist())
    assert found.mean == pytest.approx(values.mean()) and found.deviation == pytest.approx(values.std(ddof=1))
    assert (found.mean - found.interval, found.mean + found.interval) == pytest.approx((low, high))


def test_one_seed_has_no_interval():
    assert math.isnan(summary([3.0]).interval) and str(summary([3.0])) == "3.0"


def test_the_table_shows_what_is_missing():
    lines = to_markdown(SWEEP, RUNS).splitlines()
    assert lines[0] == "| | mIoU | R1@0.5 | seeds |"
    assert lines[2:] == ["| early | 42.0 ± 2.8 | 50.0 ± 0.0 | 2 |", "| late | – | – | 0 |"]


def test_results_name_the_command_and_the_versions():
    content = json.loads(to_json(SWEEP, RUNS, "unloc sweep x.toml"))
    assert (
        content["command"] == "unloc sweep x.toml"
        and {"jax", "Python", "the code of unloc_jax"} <= content["versions"].keys()
    )
    assert [(run["row"], run["seed"], run["minutes"]) for run in content["runs"]] == [
        ("early", 0, 2.0),
        ("early", 1, None),
    ]


def test_metrics_of_one_task_and_of_several(tmp_path):
    one, several = tmp_path / "one", tmp_path / "several"
    for folder, value in ((one, 1), (several / "a", 2.5), (several / "b", 3)):
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(
            json.dumps({"recall": {"model": {"R1@0.5": value}}, "scored": True})
        )
    assert metric_of(one, "recall/model/R1@0.5") == 1.0
    assert metric_of(several, "a/recall/model/R1@0.5") == 2.5
    for path in ("recall/model", "scored", "recall/model/R1@0.5/x", "R1@0.5"):
        with pytest.raises(UserError, match=re.escape("recall/model/R1@0.5")):
            metric_of(one, path)


def test_the_plot_shows_every_seed(tmp_path):
    pytest.importorskip("matplotlib")
    from unloc_jax.sweep.plot import save_plot

    save_plot(SWEEP, RUNS, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()
