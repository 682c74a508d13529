# SPDX-License-Identifier: MIT
"""One ADMM iteration of recTV, by engine and by the textbook, beside bare FFT pairs: complex64, one thread."""

import functools

import pytest

from baselines import ITERATIONS, PAIRS, Engine, Problem, missing

SWEEPS = ("with_tape", "plain", "reverse", "tangent")


@functools.cache
def problem(n):
    """Shared by all of one size."""
    return Problem(n)


def run(benchmark, contestant):
    """Check the answer, then time; a call may be many iterations, as `extra_info` says."""
    benchmark.extra_info["error"] = contestant.checked()
    benchmark.extra_info["units per call"] = contestant.count
    benchmark(contestant.run)


def need(module, name):
    """Skip, with the reason, where a module is not installed."""
    why = missing(module)
    if why:
        pytest.skip(f"{name}: {why}")


@pytest.mark.parametrize("name", ITERATIONS)
def bench_iteration(benchmark, name, n):
    """kspike's engines (20 iterations a call) and the textbook (1 a call)."""
    benchmark.group = f"iteration {n}"
    module, make = ITERATIONS[name]
    need(module, name)
    run(benchmark, make(problem(n), 1))


@pytest.mark.parametrize("name", SWEEPS)
def bench_sweep(benchmark, name, n):
    """What the derivatives cost: 20 iterations with the tape, of the adjoint sweep, of the tangent."""
    benchmark.group = f"sweep {n}"
    need("kspike._core", "cpp")
    run(benchmark, getattr(Engine("cpp", problem(n), 1), name)())


@pytest.mark.parametrize("name", PAIRS)
def bench_pair(benchmark, name, n):
    """An FFT and an inverse FFT, planned, nothing allocated where the library can do without."""
    benchmark.group = f"pair {n}"
    module, make = PAIRS[name]
    need(module, name)
    run(benchmark, make(n, 1))
