# SPDX-License-Identifier: MIT
"""kspike at its best for this problem: little rho at first, for the jumps to grow, then a larger one to the end."""

import itertools

import kspike

FUNCTIONAL = "separable"
LADDER = True  # looks only here and there
SETTINGS = tuple(
    {"first": first, "low": low, "rho": rho}
    for (first, low), rho in itertools.product(((10, 0.03), (20, 0.05)), (0.3, 0.4, 0.2, 0.5, 0.7))
)


def tuned(problem, dtype, threads, first, low, rho):
    """`first` iterations with rho = low, the others with rho."""
    opening, rest = (
        kspike.TVSolver(problem.mask, problem.lam, rho=r, dtype=dtype, backend="cpp", threads=threads)
        for r in (low, rho)
    )
    y = problem.y.astype(dtype)

    def run(iterations, look=None):
        info = opening.solve(y, min(first, iterations), 0)
        k, step = first, iterations - first if look is None else 1
        while k + step <= iterations and step > 0:
            info = rest.solve(y, step, 0, state=info)
            k += step
            if look is None or look(k, info.x):
                break
            step = max(1, k // 40)
        return info.x

    return run


CONTESTANTS = {"kspike tuned": tuned}
