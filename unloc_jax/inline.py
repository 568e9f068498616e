"""Shows results inside a notebook: pages in iframes, numbers as tables."""

import html
import math
import re
import sys
from collections.abc import Mapping
from typing import Any

# Metrics at thresholds become columns: mAP@0.50, R1@0.5, AR@10; recall@0.50@5 is recall@5 at 0.50.
_AT = re.compile(r"(\w+)@(\d[\d.]*)(@\d+)?")


def framed(page: str, height_px: int) -> str:
    """Returns HTML that shows a whole page in a frame, apart from the notebook around it.

    The page runs its own scripts, but reaches neither the notebook nor the user's account.

    Args:
      page: a complete HTML document.
      height_px: of the frame; longer pages scroll.
    """
    # Without it, links within the page lead to the notebook's address.
    page = page.replace("<head>", '<head><base href="about:srcdoc">', 1)
    source = page.replace("&", "&amp;").replace('"', "&quot;")
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{source}" '
        f'style="display:block;width:100%;height:{height_px}px;border:0"></iframe>'
    )


def in_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def metric_tables(title: str, metrics: Mapping[str, Any]) -> str:
    """Renders nested metrics as HTML: one table of single values, then one for each group with the same columns.

    Lists, and what is given per class, are left out: the file of metrics holds them.
    """
    single, groups = _grouped(metrics)
    tables = [_table((), list(single.items()))] if single else []
    for (group, columns), rows in groups.items():
        tables.append(_table((group, *columns), [(name, *values) for name, values in rows]))
    return f"<div><p><b>{html.escape(title)}</b></p>{''.join(tables)}</div>"


Groups = dict[tuple[str, tuple[str, ...]], list[tuple[str, tuple[Any, ...]]]]


def _grouped(metrics: Mapping[str, Any]) -> tuple[dict[str, Any], Groups]:
    """Splits nested metrics into single values, and rows of values by their group and columns."""
    single: dict[str, Any] = {}
    groups: Groups = {}

    def add(path: tuple[str, ...], values: Mapping[str, Any]) -> None:
        plain: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            at = None if path else _AT.fullmatch(name)
            if name.startswith("per_class") or isinstance(value, list):
                continue
            if isinstance(value, Mapping):
                add((*path, name), value)
            elif path:
                plain.setdefault(path[-1], {})[name] = value
            elif at:
                plain.setdefault(at[1] + (at[3] or ""), {})[at[2]] = value
            else:
                single[name] = value
        for name, row in plain.items():
            groups.setdefault((" · ".join(path[:-1]), tuple(row)), []).append((name, tuple(row.values())))

    add((), metrics)
    return single, groups


def _table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    head = "".join(f"<th>{html.escape(column.replace('_', ' '))}</th>" for column in columns)
    body = "".join(
        f'<tr><th style="text-align:left">{html.escape(str(name).replace("_", " "))}</th>'
        + "".join(f'<td style="text-align:right">{_cell(value)}</td>' for value in values)
        + "</tr>"
        for name, *values in rows
    )
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return html.escape(f"{value:.2f}" if isinstance(value, float) else str(value))
