"""Compares this project with goldens of the reference: `python -m tests.check_goldens DIR [--pattern GLOB]`.

DIR holds NAME.npz and NAME.json. One line per golden: the largest difference of an output (`logits`; for the files
pure_* of any case), of the loss, and of a gradient's projection relative to the global norm; then what a reader must
know. Beside a golden of VideoPrism is NAME.weights.npz. The exit status is 1 if one fails, or if nothing matched.
"""

import argparse
import fnmatch
import json
import sys
from pathlib import Path

import jax
import numpy as np

from tests.golden_checks import pure
from tests.golden_checks.result import Result

_WEIGHTS = ".weights.npz"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.check_goldens", description=__doc__)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--pattern", default="*", help="which goldens, such as 'pure_*' (all)")
    arguments = parser.parse_args(words)
    found = (p for p in arguments.dir.glob("*.npz") if not p.name.endswith(_WEIGHTS))
    files = sorted(p for p in found if fnmatch.fnmatch(p.stem, arguments.pattern))
    if not files:
        print(f"FAIL: no golden in {arguments.dir} matches {arguments.pattern}")
        return 1
    width = max(len(path.stem) for path in files)
    print(f"{'golden':<{width}}  {'logits':>8}  {'loss':>8}  {'gradients':>9}")
    results = []
    for path in files:
        with jax.default_matmul_precision("highest"):  # as the goldens were made
            results.append(_check(path))
        print(_line(results[-1], width), flush=True)
    failed = [result.name for result in results if not result.passed]
    print(
        f"{len(results) - len(failed)} of {len(results)} goldens pass"
        + "".join(f"\n  failed: {x}" for x in failed)
    )
    return 1 if failed else 0


def _check(path: Path) -> Result:
    """One golden; whatever goes wrong with it is its result, so that the others are still checked."""
    name = path.stem
    try:
        with np.load(path) as file:
            arrays = dict(file)
        meta = json.loads(path.with_suffix(".json").read_text())
        if name.startswith("pure_"):
            return pure.check(name, arrays, meta)
        if path.with_name(name + _WEIGHTS).exists():
            from tests.golden_checks import videoprism

            return videoprism.check(name, path.parent, arrays, meta)
        from tests.golden_checks import model  # brings the whole model along

        return model.check(name, arrays, meta)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Result(name, None, None, None, False, reason)


def _line(result: Result, width: int) -> str:
    numbers = [
        "-" if value is None else f"{value:.1e}" for value in (result.logits, result.loss, result.gradients)
    ]
    verdict = "PASS" if result.passed else "FAIL"
    shown = f"{result.name:<{width}}  {numbers[0]:>8}  {numbers[1]:>8}  {numbers[2]:>9}  {verdict}"
    return f"{shown}  {result.note}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
