# SPDX-License-Identifier: MIT
"""Fuzzing with and without guidance: a target is a module with `one(draws)`, which raises on a finding.

Without: draws from seeded random numbers, for the suite. With: by the coverage of the code, by Atheris, in a process of
its own, `python fuzzing.py TARGET SECONDS`; C++ counts if Clang compiled it with -fsanitize=fuzzer-no-link.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent


class Draws:
    """What a target draws from; the methods have the names and meanings of Atheris's FuzzedDataProvider."""

    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)

    def ConsumeIntInRange(self, low, high):
        """An integer between low and high, both included."""
        return int(self._rng.integers(low, high, endpoint=True))

    def ConsumeBytes(self, count):
        """Random bytes."""
        return self._rng.bytes(count)


def pick(draws, items):
    """One of the items."""
    return items[draws.ConsumeIntInRange(0, len(items) - 1)]


def unguided(target, count, seed=0):
    """Try `count` seeded cases in this process."""
    for i in range(count):
        try:
            target.one(Draws((seed, i)))
        except Exception as error:
            error.add_note(f"case {i} of seed {seed}")
            raise


def guided(name, seconds, environment):
    """Run a target under Atheris for so long: (whether nothing was found, a line of what was covered or found)."""
    done = subprocess.run(
        [sys.executable, HERE / "fuzzing.py", name, str(int(seconds))],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
    )
    output = done.stdout + done.stderr
    cases = re.findall(r"^#(\d+)\s+\S+\s+cov: (\d+) .* rss: (\d+)Mb", output, re.M)
    ended = re.search(r"Done (\d+) runs", output)
    if done.returncode == 0 and cases and ended:
        half = next(rss for count, _, rss in cases if 2 * int(count) >= int(cases[-1][0]))
        return True, (
            f"{int(ended[1]):,} cases, {cases[-1][1]} edges covered, {cases[0][1]} by the first; "
            f"resident at half of them {half} MiB, at the end {cases[-1][2]} MiB"
        )
    found = re.search(r"(ERROR: \w*Sanitizer.*|=== Uncaught Python exception.*\n.*|.*runtime error.*)", output)
    return False, found[0] if found else f"exit status {done.returncode}: {output[-300:]}"


def main(name, seconds):
    """The process that Atheris runs in."""
    import atheris

    sys.path[:0] = [str(HERE)]
    readers = ["numpy.lib.format", "zipfile", "PIL", "h5py", "yaml", "tomllib"]
    with atheris.instrument_imports(include=["kspike", *readers]):
        target = importlib.import_module(name)
        getattr(target, "prepare", lambda: None)()

    def once(data):
        target.one(atheris.FuzzedDataProvider(data))

    scratch = os.environ["KSPIKE_FUZZ"]
    limits = [
        f"-rss_limit_mb={target.RESIDENT}",
        "-timeout=60",
        "-max_len=4096",
        "-print_final_stats=1",
        f"-artifact_prefix={scratch}/",
    ]
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", *limits, scratch], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
