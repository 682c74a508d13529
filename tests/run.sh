#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Install kspike with all that its tests need into a virtual environment of its own, then run every check this machine can.
#   PYTHON       the interpreter to start from (python3, 3.11 or later)
#   KSPIKE_VENV  where the environment goes (.venv-test); it is made anew if it is not there, and brought up to date if it is
# Arguments go to pytest: tests/run.sh -k adjoint
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${KSPIKE_VENV:-.venv-test}
step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

step "install into $venv"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
bin=$(cd "$venv/bin" && pwd)
KSPIKE_WERROR=1 "$bin/pip" install --quiet --disable-pip-version-check -c constraints.txt '.[test]'

step "ruff, clang-format, mypy"
"$bin/ruff" check
"$bin/ruff" format --check
find csrc -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' | xargs "$bin/clang-format" --dry-run -Werror
"$bin/mypy"

step "bench, tiny and with its answers checked"
"$bin/python" bench/run.py --smoke

step "pytest"
exec "$bin/python" -m pytest -n auto -p no:benchmark "$@"
