# SPDX-License-Identifier: MIT
"""An installed wheel, tried at every instruction set that this machine has: `python tests/wheel.py`, NumPy is enough.

The engine must be there, forced levels must be the ones that run, an attack must find something, and all levels must
reconstruct the same spike: an attack is no comparison, its steps drift apart in single precision.
"""

import os
import platform
import subprocess
import sys

ATTACK = """
import kspike
mask = kspike.radial_mask((64, 64), lines=12)
tv = kspike.TVSolver(mask, lam=5.6e-3)
y = tv.A(kspike.ellipses((64, 64), seed=0))
assert kspike.attack(tv, y, noise=0.04, grid=(2, 2)).artifact_max > 1
spiked = tv.solve(y + kspike.spike(tv.A, (20, 30), 0.5), max_iterations=500, tol=0)
print(repr(tv).partition("backend=")[2].partition(",")[0], abs(spiked.x).max())
"""


def main():
    """Try every level; the exit status."""
    levels = ["baseline", "v3", "v4"] if platform.machine() in ("x86_64", "AMD64") else ["baseline"]
    heights = []
    for level in levels:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
            "KSPIKE_ISA": level
        }
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", ATTACK], env=environment, capture_output=True, text=True, cwd="/"
        )
        if done.returncode and level != "baseline" and "KSPIKE_ISA" in done.stderr:
            print(level, "is not for this processor:", done.stderr.strip().splitlines()[-1])
            continue
        if done.returncode:
            sys.exit(f"{level}: {done.stderr}")
        engine, height = done.stdout.rsplit(maxsplit=1)
        if engine != f"cpp ({level})":
            sys.exit(f"{level}: expected the engine cpp ({level}), got {engine}")
        print(level, height)
        heights.append(float(height))
    if max(heights) - min(heights) > 1e-4 * max(heights):  # single precision, other orders of summation
        sys.exit(f"expected the same spike from every level, got {heights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
