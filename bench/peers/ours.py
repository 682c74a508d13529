# SPDX-License-Identifier: MIT
"""kspike, by engine: the solver as it comes, no setting touched."""

from problem import ahead  # this folder's

import kspike

FUNCTIONAL, SETTINGS = "separable", ({},)
LADDER = True  # each look is a run from the start, and there are few
DENSE = 512  # pixels a side up to which they are dense, in single precision


def maker(backend):
    """The contestant of one engine."""

    def make(problem, dtype, threads):
        tv = kspike.TVSolver(problem.mask, problem.lam, dtype=dtype, backend=backend, threads=threads)
        y, dense = problem.y.astype(dtype), problem.n <= DENSE and dtype == "complex64"

        def run(iterations, look=None):
            if look is None:
                return tv.solve(y, iterations, 0).x
            k = 20
            while k <= iterations:  # each from the start: the penalties of a solve depend on how long it may be
                x = tv.solve(y, k, 0).x
                if look(k, x):
                    break
                k = k + max(2, k // 25) if dense else ahead(k, look.curve, look.left)
            return x

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
