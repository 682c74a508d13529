# SPDX-License-Identifier: MIT
"""The attack, per location: an ellipse image, radial lines, 4 % noise, one thread."""

import numpy as np
import pytest

import kspike
from baselines import NOISE, missing


@pytest.mark.parametrize("by", ["cpp", "numba"])
def bench_attack(benchmark, n, by):
    """A grid of 2 x 2 locations, never weaker than the plain spike; `extra_info` has what one location costs."""
    module = {"cpp": "kspike._core", "numba": "numba"}[by]
    why = missing(module)
    if why:
        pytest.skip(f"{by}: {why}")
    benchmark.group = f"attack {n}"
    mask = kspike.radial_mask((n, n), lines=min(40, n // 2))
    tv = kspike.TVSolver(mask, lam=0.14 * NOISE, backend=by)
    y = tv.A(kspike.ellipses((n, n), seed=0))
    found = benchmark.pedantic(kspike.attack, (tv, y), {"noise": NOISE, "grid": (2, 2)}, rounds=3, warmup_rounds=1)
    spiked = tv(y + kspike.spike(tv.A, found.location, found.eta))
    assert found.artifact_max >= np.abs(spiked - found.clean).max()
    benchmark.extra_info["alpha"] = found.amplification
    benchmark.extra_info["pairs per location"] = float(np.mean(found.pairs))
    if benchmark.stats:  # none with --benchmark-disable
        benchmark.extra_info["locations per second"] = 4 / benchmark.stats.stats.median
