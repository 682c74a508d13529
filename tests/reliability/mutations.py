# SPDX-License-Identifier: MIT
"""Faults planted in the kernels, one at a time, each of which the suite must catch.

A fault is an edit of one place of csrc, compiled into a copy of the package, on which the tests of the engine are run.
Faults that only a GPU or its emulator can have, missing barriers among them, are planted by tests/cuda/exercise.py.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

import build

TITLE = "Planted faults"
SUITE = ["tests/test_kernels.py", "tests/test_plan.py", "tests/test_cpp.py"]
# what it is -> (file, old, new)
FAULTS: dict[str, tuple[str, str, str]] = {
    "sign: the reflected tangent": ("scalar.hpp", "choose(on, dw, -dw)", "choose(on, -dw, dw)"),
    "wrap-around: the row below the last": (
        "stencil.hpp",
        "down = i + 1 < s.rows ? n : n - s.plane();",
        "down = i + 1 < s.rows ? n : 0;",
    ),
    "off by one: the step of the tape": ("admm.hpp", "(*tape)[i].count + n - 1)", "(*tape)[i].count)"),
    "wrong mask bit: real for imaginary": (
        "stencil.hpp",
        "static_cast<int>(k & 1)) & 1",
        "static_cast<int>(~k & 1)) & 1",
    ),
    "stale scratch: the total of the last reverse": ("admm.hpp", "team.total.clear();", ""),
    "stale state: the threshold of the last call": ("admm.hpp", "rhs || !(image.t == t)", "rhs || image.t != image.t"),
    "missing barrier: rows before columns": (
        "admm.hpp",
        "passes_.rows_forward(x + i * image_size(), T(1), h, team, k);\n      team.wait();",
        "passes_.rows_forward(x + i * image_size(), T(1), h, team, k);",
    ),
    "sign: the phase of the centring": ("passes.hpp", "return rotate<-1>(", "return rotate<1>("),
    "the mean, where nothing determines it": ("admm.hpp", "if (passes_.mean_sampled()) return;", "return;"),
    "over-relaxation: of the dual too": ("scalar.hpp", "(relax * clip(w, t) + step)", "(clip(w, t) + step)"),
}


def caught(fault):
    """Whether the tests fail with the fault planted, and the first that does."""
    with tempfile.TemporaryDirectory() as folder:
        there = build.package(folder, "-O0", "-g0", edits=[FAULTS[fault]])
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:benchmark"]
        done = subprocess.run(
            [*command, *SUITE, "-k", "cpp and not instruction and not level"],
            cwd=build.ROOT,
            env=build.environment(there),
            capture_output=True,
            text=True,
        )
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 1 and bool(failed), failed[0].split(" - ")[0] if failed else "nothing failed"


def run(minutes):
    """Plant every fault; in the short version the first."""
    table, passed = [], True
    for fault in list(FAULTS)[: None if minutes >= 1 else 1]:
        found, by = caught(fault)
        passed &= found
        table.append((fault, by, "caught"))
    return passed, table
