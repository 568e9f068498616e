#!/bin/sh
# Installs the project where Colab's packages are, checks that none of them has changed, and runs the fast tests there:
#
#   PYTHON=python3.13 tests/colab/check.sh LIST [PYTEST ARGUMENTS]
#
# LIST is what `pip freeze` prints on a runtime; Google publishes Colab's in github.com/googlecolab/backend-info.
# preinstalled.py says which of its packages are installed here. The environment is made anew in $ENVIRONMENT, about
# 3 GB (default: .venv-colab); KEEP=1 uses the one that is there.
set -eu
list=$(realpath "$1"); shift
cd "$(dirname "$0")/../.."
environment=${ENVIRONMENT:-.venv-colab}
python=$environment/bin/python

# The versions of the packages, without the project itself.
freeze() { "$python" -m pip list --format=freeze 2>/dev/null | grep -iv '^unloc' | LC_ALL=C sort; }

if [ -z "${KEEP:-}" ]; then
  rm -rf "$environment"
  "${PYTHON:-python3.13}" -m venv "$environment"
  "$python" tests/colab/preinstalled.py "$list"
  freeze >"$environment/before.txt"
  "$python" -m pip install --quiet '.[data]'
  freeze >"$environment/after.txt"
  # New packages are fine; a line of before.txt that is gone is a package that was replaced or removed.
  diff "$environment/before.txt" "$environment/after.txt" || true
  changed=$(LC_ALL=C comm -23 "$environment/before.txt" "$environment/after.txt")
  if [ -n "$changed" ]; then
    echo "installing '.[data]' changed what was there: $changed" >&2
    exit 1
  fi
  # The tests' own packages must not move anything either, or the tests would run elsewhere.
  "$python" -m pip install --quiet --constraint "$environment/after.txt" '.[data,test]'
fi
"$python" -m pytest -m "not slow" "$@"
