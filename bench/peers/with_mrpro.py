# SPDX-License-Identifier: MIT
"""MRpro: its pdhg on its own Fourier and difference operators, circular, real and imaginary part apart."""

FUNCTIONAL = "separable"
LADDER = False
SETTINGS = tuple({"sigma": sigma} for sigma in (0.1, 0.05, 0.03, 0.02, 0.2, 0.3, 0.5, 1))


def pdhg(problem, dtype, threads, sigma):
    """mrpro.algorithms.optimizers.pdhg on 1/2 ||A x - y||^2 and lam ||D x||_1 with L1NormViewAsReal."""
    import torch
    from mrpro.algorithms.optimizers import pdhg as solve
    from mrpro.operators import FastFourierOp, FiniteDifferenceOp, LinearOperatorMatrix
    from mrpro.operators.functionals import L1NormViewAsReal, L2NormSquared

    torch.set_num_threads(threads)
    F, mask = FastFourierOp(dim=(-2, -1)), torch.from_numpy(problem.mask)
    D = FiniteDifferenceOp(dim=(-2, -1), mode="forward", pad_mode="circular")
    k = torch.from_numpy(problem.spectrum(dtype))
    zero = torch.zeros(problem.mask.shape, dtype=k.dtype)
    data = 0.5 * L2NormSquared(target=k, weight=mask.to(k.real.dtype), divide_by_n=False)
    f = data | problem.lam * L1NormViewAsReal(divide_by_n=False)
    operator = LinearOperatorMatrix(((F,), (D,)))

    def run(iterations, look=None):
        def callback(status):
            k = status["iteration_number"] + 1
            return not look(k, status["solution"][0].numpy())

        return solve(
            f=f,
            g=None,
            operator=operator,
            initial_values=(zero,),
            max_iterations=iterations,
            primal_stepsize=1 / (9 * sigma),
            dual_stepsize=sigma,
            callback=None if look is None else callback,
        )[0].numpy()

    return run


CONTESTANTS = {"MRpro PDHG": pdhg}
