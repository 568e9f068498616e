"""Every row of docs/failures.md names a test that exists."""

import ast
import re

from tests.tiny_runs import REPOSITORY

_PAGE = (REPOSITORY / "docs" / "failures.md").read_text("utf-8")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _tests_of(file: str) -> set[str]:
    tree = ast.parse((REPOSITORY / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists():
    named = _TEST.findall(_PAGE)
    assert len(named) > 50
    assert [f"{file}::{name}" for file, name in named if name not in _tests_of(file)] == []


def test_every_fault_has_an_exit_status_and_a_test():
    tables = re.findall(r"^\| fault \|.*\n\|[-|]+\n((?:\|.*\n)+)", _PAGE, re.MULTILINE)
    rows = [re.split(r"(?<!\\)\|", row)[1:-1] for table in tables for row in table.splitlines()]
    assert len(tables) > 7
    assert [row[0] for row in rows if len(row) != 4 or not row[1].strip() or not _TEST.search(row[3])] == []
    # Decided by a setting, in rows of their own.
    assert [row[0].strip() for row in rows if not row[2].strip()] == [
        "the loss or a gradient is NaN or infinite"
    ]
