# SPDX-License-Identifier: MIT
"""kspike, by engine: the solver as it comes, no setting touched."""

import kspike
from kspike.solver import OPENINGS

FUNCTIONAL, SETTINGS = "separable", ({},)
LADDER = True  # looks only here and there
OPENED = sum(iterations for iterations, _ in OPENINGS["cold"])  # from here on rho is one


def maker(backend):
    """The contestant of one engine."""

    def make(problem, dtype, threads):
        options = {"dtype": dtype, "backend": backend, "threads": threads}
        tv = kspike.TVSolver(problem.mask, problem.lam, **options)
        same = kspike.TVSolver(problem.mask, problem.lam, rho=tv.rho, **options)  # opens with nothing else
        y = problem.y.astype(dtype)

        def run(iterations, look=None):
            if look is None:
                return tv.solve(y, iterations, 0).x
            k, step, info = 10, 10, None
            while k <= iterations:  # from the start at first, for the opening depends on how long it may be
                goes_on = k - step >= OPENED
                info = same.solve(y, step, 0, state=info) if goes_on else tv.solve(y, k, 0)
                if look(k, info.x):
                    break
                step = max(1, k // 40)
                k += step
            return info.x

        return run

    return make


def gradient(problem, dtype, threads, iterations, rho):
    """The derivative of 1/2 ||A (x - A*y)||^2 ... through unrolled iterations: the exact reverse sweep."""
    tv = kspike.TVSolver(problem.mask, problem.lam, rho=rho, relax=1.0, dtype=dtype, threads=threads)
    y = problem.y.astype(dtype)
    g = tv.A.adjoint(y)

    def run():
        _, pullback = tv.vjp(y, iterations=iterations)
        return pullback(g)

    return run


CONTESTANTS = {
    "kspike cpp": maker("cpp"),
    "kspike numba": maker("numba"),
    "kspike reference": maker("reference"),
}
GRADIENTS = {"kspike cpp": gradient}
