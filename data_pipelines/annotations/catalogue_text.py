"""The catalogue of datasets as text: for the terminal, and docs/datasets.md.

python -m data_pipelines.annotations.catalogue_text docs/datasets.md
"""

import sys
from pathlib import Path

from data_pipelines.annotations.catalogue import DATASETS, Dataset
from unloc_jax.whole_writes import write_result

_HEAD = """# Datasets

What `unloc data list` prints, from one table in the code
([catalogue.py](../data_pipelines/annotations/catalogue.py)). The formats are described in
[annotations](annotations.md), as are your own data and the exports of labelling tools. The library downloads nothing:
every dataset has its own licence and source, and the notes on licences are no advice. `DOWNLOADS` is the folder with
the publisher's files.

Configs exist for the datasets of UnLoc's paper, whose settings are the reference's, and for EPIC-Kitchens, Ego4D, HACS,
FineAction, THUMOS14, MultiTHUMOS, Charades, MAD, 50Salads, Breakfast and GTEA, whose settings are ours: each says why,
and nobody has tuned them. For the others the commands start from that of the nearest task: `unloc data check` suggests
a pyramid. Which [features](features.md#features-of-other-programs) a config reads is its argument. Published numbers
are those of the sources named, collected in November 2026; compare only what has the same protocol.

| dataset | `--dataset` | task | size | source | licence |
|---|---|---|---|---|---|
"""


def page() -> str:
    """Returns docs/datasets.md."""
    rows = "".join(
        f"| [{of.name}](#{_anchor(of.name)}) | `{of.format}` | {of.task} | {of.size} | {of.source} | {of.licence} |\n"
        for of in DATASETS
    )
    return _HEAD + rows + "".join(map(_section, DATASETS))


def table() -> str:
    """Returns one line per dataset."""
    lines = [("dataset", "--dataset", "task"), *((of.name, of.format, of.task) for of in DATASETS)]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join(
        [*shown, "", "unloc data list NAME: size, source, licence, commands, published numbers, mistakes."]
    )


def details(of: Dataset) -> str:
    """Returns all facts of a dataset, one a line."""
    return "\n".join(
        [of.name, *(f"  {name}: {value}" for name, value in facts(of).items()), *_indented(of.commands)]
    )


def facts(of: Dataset) -> dict[str, str]:
    """Returns the facts that are known, by their names."""
    every = {
        "format": of.format,
        "task": of.task,
        "size": of.size,
        "source": of.source,
        "licence": of.licence,
        "protocol": of.protocol,
        "papers report": of.measures,
        "published": of.published,
        "typical mistakes": of.mistakes,
        "on features": of.on_features,
    }
    return {name: value for name, value in every.items() if value}


def _section(of: Dataset) -> str:
    told = {
        name: value
        for name, value in facts(of).items()
        if name in ("papers report", "published", "typical mistakes", "on features")
    }
    lines = "".join(f"- {name}: {value}\n" for name, value in told.items())
    commands = "\n".join(of.commands)
    return f"\n## {of.name}\n\n{lines}{chr(10) if lines else ''}```sh\n{commands}\n```\n"


def _anchor(name: str) -> str:
    kept = "".join(letter for letter in name.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _indented(commands: list[str]) -> list[str]:
    return [f"  {command}" for command in commands]


if __name__ == "__main__":
    write_result(Path(sys.argv[1]), page())
