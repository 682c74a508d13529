# SPDX-License-Identifier: MIT
"""SigPy: its primal-dual algorithm on its own operators, the data term by its closed proximal map (A A* = I)."""

import numpy as np

FUNCTIONAL = "modulus"
LADDER = False
SETTINGS = tuple({"sigma": sigma} for sigma in (0.1, 0.05, 0.03, 0.02, 0.2, 0.3, 0.5, 1))


def pdhg(problem, dtype, threads, sigma):
    """sigpy.alg.PrimalDualHybridGradient with FiniteDifference (backward, periodic) and L1Reg (the modulus)."""
    import sigpy

    shape = problem.mask.shape
    A = sigpy.linop.Multiply(shape, problem.mask.astype(dtype)) * sigpy.linop.FFT(shape)
    D = sigpy.linop.FiniteDifference(shape)
    zero_filled = A.H * problem.spectrum(dtype)
    tau = 1 / (8 * sigma)
    prox = sigpy.prox.Conj(sigpy.prox.L1Reg(D.oshape, problem.lam))
    gram = A.H * A

    def data(tau, v):
        return v + tau / (1 + tau) * (zero_filled - gram * v)

    def run(iterations, look=None):
        x, u = np.zeros(shape, dtype), np.zeros(D.oshape, dtype)
        steps = sigpy.alg.PrimalDualHybridGradient(prox, data, D, D.H, x, u, tau, sigma, max_iter=iterations)
        for k in range(1, iterations + 1):
            steps.update()
            if look is not None and look(k, steps.x):
                break
        return steps.x

    return run


CONTESTANTS = {"SigPy PDHG": pdhg}
