# SPDX-License-Identifier: MIT
"""SCICO: ADMM whose x-update is solved in the Fourier domain. A*A is a circular convolution, and a projection, so that
||A x - y|| = ||A*A x - A*y||.
"""

import numpy as np

FUNCTIONAL = "modulus"
LADDER = False
SETTINGS = tuple({"rho": rho} for rho in (0.2, 0.15, 0.1, 0.07, 0.05, 0.3, 0.5, 0.7))


def admm(problem, dtype, threads, rho):
    """scico.optimize.admm.ADMM with CircularConvolveSolver."""
    import jax

    jax.config.update("jax_enable_x64", np.dtype(dtype) == np.complex128)
    import scico.numpy as snp
    from scico import functional, linop, loss
    from scico.optimize.admm import ADMM, CircularConvolveSolver

    shape = problem.mask.shape
    data, mask, _ = problem.corner(dtype)
    A = linop.CircularConvolve(snp.array(mask), shape, input_dtype=dtype, h_is_dft=True)
    D = linop.FiniteDifference(shape, input_dtype=dtype, circular=True)
    f = loss.SquaredL2Loss(y=snp.fft.ifftn(snp.array(data), norm="ortho"), A=A)
    g = problem.lam * functional.L1Norm()

    def run(iterations, look=None):
        zero = snp.zeros(shape, dtype)
        solver = ADMM(f, [g], [D], [rho], x0=zero, maxiter=iterations, subproblem_solver=CircularConvolveSolver())
        for k in range(1, iterations + 1):
            solver.step()
            if look is not None and look(k, np.fft.fftshift(np.asarray(solver.x))):
                break
        return np.fft.fftshift(np.asarray(solver.x.block_until_ready()))

    return run


CONTESTANTS = {"SCICO ADMM": admm}
