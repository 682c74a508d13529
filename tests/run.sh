#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Install kspike with all that its tests need into a virtual environment of its own, then run every check this machine
# can. Ends with pytest's closing line, or with the names of the other checks that failed.
#   PYTHON       the interpreter to start from (python3, 3.11 or later)
#   KSPIKE_VENV  the environment (.venv-test), made if it is not there, else brought up to date
# Arguments go to pytest: tests/run.sh -k adjoint
set -uo pipefail
cd "$(dirname "$0")/.." || exit
venv=${KSPIKE_VENV:-.venv-test}
failed=()
check() {
  printf '\n== %s (%d s)\n' "$*" "$SECONDS"
  "$@" || failed+=("$*")
}
clang_format() { find csrc tests \( -name '*.?pp' -o -name '*.cu' \) -exec clang-format --dry-run -Werror {} +; }

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv" || exit
PATH=$(cd "$venv/bin" && pwd):$PATH
find build -name '*.py' -delete 2>/dev/null  # setuptools would install those that the checkout has no more
printf '== install into %s\n' "$venv"
KSPIKE_WERROR=1 python -m pip install --quiet --disable-pip-version-check -c constraints.txt '.[test]' || exit
check ruff check
check ruff format --check
check clang_format
check mypy
check python -m sphinx -q -W --keep-going docs build/docs
check python tests/wheel.py
check python bench/run.py --smoke
check python -m pytest bench --sizes 32 --benchmark-disable -q
check python -m pytest -n auto -p no:benchmark "$@"
if [ ${#failed[@]} -gt 0 ]; then
  printf '\nfailed: %s' "${failed[@]}"
  echo
  exit 1
fi
