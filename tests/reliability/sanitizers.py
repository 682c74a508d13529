# SPDX-License-Identifier: MIT
"""The suite under the sanitizers: memory and undefined behaviour over all of it, races over what has threads.

The engine is compiled again with the checks, at the baseline and at the best level of this processor.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile

import build

from kspike._backends import cpp

TITLE = "Sanitizers"
MARCH = {"baseline": "x86-64", "v3": "x86-64-v3", "v4": "x86-64-v4"}
SUITE = ("kernels", "plan", "public_kernels", "norms", "operators", "cpp")
ELSEWHERE = (  # what measures memory, other modules, or processes that the sanitizer is not loaded into
    "not instruction and not levels_agree and not unknown_level and not fork and not one_field_and_one_spectrum"
    " and not cannot_be_started and not no_memory_holds and not every_length"
    " and not [numba and not [reference and not paper"
)
KINDS = {
    "address and undefined behaviour": (
        ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
        "libasan.so",
        {"ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1"},
    ),
    "threads": (["-fsanitize=thread"], "libtsan.so", {"TSAN_OPTIONS": "report_signal_unsafe=0"}),
}


def under(kind, level, tests, folder):
    """Run the tests with the engine so compiled: (exit status, pytest's last line or the sanitizer's report)."""
    flags, library, options = KINDS[kind]
    there = build.package(folder, "-O1", "-g1", f"-march={MARCH[level]}", *flags)
    environment = build.environment(there, LD_PRELOAD=build.preload("g++", library), KSPIKE_BACKEND="", **options)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    done = subprocess.run([*command, *tests], cwd=build.ROOT, env=environment, capture_output=True, text=True)
    output = done.stdout + done.stderr
    report = re.search(r"(ERROR: \w+Sanitizer.*|WARNING: ThreadSanitizer.*|.*runtime error.*|^FAILED .*)", output, re.M)
    return done.returncode, report[0] if report else output.strip().splitlines()[-1].strip("= ")


def run(minutes):
    """All of the suite that concerns the engine; in the short version a few tests at one level."""
    threads = "threads or shared or large_odd"
    suite = [f"tests/test_{name}.py" for name in SUITE]
    memory, levels = "address and undefined behaviour", ("baseline", cpp.BEST)
    jobs = [(memory, level, [*suite, "-k", ELSEWHERE]) for level in levels]
    jobs.append(("threads", cpp.BEST, [*suite, "-k", f"({threads}) and {ELSEWHERE}"]))
    if minutes < 1:
        jobs = [(memory, "baseline", ["tests/test_cpp.py", "-k", "large_odd or derivatives_do_not"])]
    table, passed = [], True
    for kind, level, tests in jobs:
        with tempfile.TemporaryDirectory() as folder:
            status, line = under(kind, level, tests, folder)
        passed &= status == 0
        table.append((f"{kind}, {level}", line, "no report"))
    return passed, table
