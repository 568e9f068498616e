"""`unloc data list` and docs/datasets.md: complete, the same, and with commands that exist."""

import json
from pathlib import Path

import pytest

from data_pipelines.annotations import PARSERS
from data_pipelines.annotations.catalogue import DATASETS, named
from data_pipelines.annotations.catalogue_text import page
from unloc_jax import cli
from unloc_jax.errors import UserError
from unloc_jax.metrics.protocols import PROTOCOLS
from unloc_jax.metrics.protocols.presets import PRESETS

REPOSITORY = Path(__file__).parents[2]
# Users' own data, and the exports of their tools.
_NOT_DATASETS = {"csv", "cvat", "fiftyone", "jsonl", "elan", "label_studio", "subtitles", "textgrid", "via"}


def test_every_format_has_a_dataset():
    assert {of.format for of in DATASETS} == PARSERS.keys() - _NOT_DATASETS
    assert len({of.name for of in DATASETS}) == len(DATASETS)


def test_the_page_is_the_table():
    """Otherwise: python -m data_pipelines.annotations.catalogue_text docs/datasets.md."""
    assert (REPOSITORY / "docs" / "datasets.md").read_text("utf-8") == page()


def test_configs_and_protocols_exist():
    """The options of all commands are those of the page, which tests/pages reads."""
    for of in DATASETS:
        assert (REPOSITORY / "configs" / of.config.partition(":")[0]).is_file()
        assert of.protocol.split()[0] in {*PROTOCOLS, *PRESETS}


def test_every_format_has_a_protocol():
    assert PARSERS.keys() - _NOT_DATASETS <= {*PROTOCOLS, *PRESETS}


def test_list(capsys):
    assert cli.main(["data", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(of.name in shown and of.format in shown for of in DATASETS)
    cli.main(["data", "list", "MS_TCN", "mad", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["50Salads", "Breakfast", "GTEA", "MAD"]
    assert told["MAD"]["format"] == "mad" and len(told["MAD"]["commands"]) == 5
    cli.main(["data", "list", "GTEA"])
    assert "typical mistakes: `background` is no action" in capsys.readouterr().out


def test_unknown_names_are_one_line():
    with pytest.raises(UserError, match=r"Unknown dataset 'ego4d'\. Did you mean"):
        named(["ego4d"])
