"""Descriptions of sweeps: rows, factors, and every mistake in one line."""

import pytest

from unloc_jax.errors import UserError
from unloc_jax.sweep.description import read_sweep

HEAD = 'config = "configs/quickstart.py"\nmetrics = ["recall/model/mIoU"]\n'
FACTORS = """
[settings]
"train.steps" = 400
[rows.short]
"train.steps" = 200
[rows.plain]
[factors.fusion.early]
[factors.fusion.late]
"model.fusion.type" = "late"
[factors.levels.one]
"model.pyramid.num_levels" = 1
[factors.levels.two]
"model.pyramid.num_levels" = 2
"""


@pytest.fixture
def read(tmp_path):
    def of(text):
        file = tmp_path / "sweep.toml"
        file.write_text(text)
        return read_sweep(file)

    return of


def test_rows_are_multiplied_by_factors(read):
    sweep = read(HEAD + "seeds = [3, 5]\n" + FACTORS)
    assert sweep.seeds == (3, 5) and sweep.split == "test" and len(sweep.rows) == 2 * 2 * 2
    names = [row.name for row in sweep.rows]
    assert names[:2] == ["short, fusion early, levels one", "short, fusion early, levels two"]
    last = sweep.rows[-1]
    assert last.name == "plain, fusion late, levels two" and last.levels == {
        "fusion": "late",
        "levels": "two",
    }
    assert last.settings == {"train.steps": 400, "model.fusion.type": "late", "model.pyramid.num_levels": 2}
    assert sweep.rows[0].settings["train.steps"] == 200  # a row is nearer than what all have
    assert len({row.folder for row in sweep.rows}) == len(sweep.rows)


def test_without_rows_there_is_one(read):
    (row,) = read(HEAD).rows
    assert (row.name, dict(row.settings)) == ("all", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config = ", "not a TOML file"),
        (HEAD + "colour = 1", "unknown key 'colour'"),
        (HEAD + "seeds = 0", "seeds must be"),
        (HEAD + "seeds = [1, 1]", "seeds must be"),
        (HEAD + "seeds = true", "seeds must be"),
        (HEAD + 'split = "half"', "split is one of"),
        ('config = "configs/quickstart.py"', "metrics must list"),
        ('metrics = ["a"]', "config must name a config file"),
        ('config = "configs/nowhere.py"\nmetrics = ["a"]', "no file configs/nowhere.py"),
        (HEAD + "rows = 3", "rows must be a table"),
        (HEAD + "[rows]\na = 3", "rows.a must be a table of settings"),
        (HEAD + "[rows.a]\nmodel.fusion.type = 'late'", "quote keys with dots"),
        (HEAD + "[rows.a]\n'train.stepz' = 3", "row 'a': config.train.stepz"),
        (HEAD + "[rows.a]\n'train.steps' = -3", "row 'a': "),
        (HEAD + "[rows.a]\nseed = 3", "seed is not a setting of a row"),
        (HEAD + "[rows.'a b']\n[rows.'a/b']", "need names that differ"),
    ],
)
def test_mistakes(read, text, message):
    with pytest.raises(UserError, match=message) as error:
        read(text)
    assert "sweep.toml" in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_sweep(tmp_path / "nothing.toml")
