# SPDX-License-Identifier: MIT
"""deepinv: its PDCP on its own MRI physics and L1Prior, with periodic differences as K; its TVPrior is Neumann."""

import numpy as np

FUNCTIONAL = "separable"
LADDER = False
SETTINGS = tuple({"sigma": sigma} for sigma in (0.1, 0.05, 0.03, 0.02, 0.2, 0.3, 0.5, 1))


def pdcp(problem, dtype, threads, sigma):
    """deepinv.optim.PDCP, real and imaginary part as channels."""
    import deepinv
    import torch

    torch.set_num_threads(threads)
    real = torch.float32 if np.dtype(dtype) == np.complex64 else torch.float64
    shape = problem.mask.shape
    physics = deepinv.physics.MRI(torch.from_numpy(problem.mask).to(real), img_size=shape)
    k = problem.spectrum("complex128")
    y = torch.from_numpy(np.stack([k.real, k.imag])[None]).to(real)

    def K(x):
        return torch.stack([torch.roll(x, -1, -2) - x, torch.roll(x, -1, -1) - x], 1)

    def K_adjoint(d):
        rows, cols = d.unbind(1)
        return torch.roll(rows, 1, -2) - rows + torch.roll(cols, 1, -1) - cols

    zero = torch.zeros(1, 2, *shape, dtype=real)

    def image(x):
        re, im = x[0].numpy()
        return re + 1j * im

    def run(iterations, look=None):
        count = 0

        class Enough(Exception):
            """Looked long enough."""

        def metric(values, x_prev, x):
            nonlocal count
            count += 1
            if look(count, image(x[None])):
                raise Enough
            return 0.0

        solver = deepinv.optim.PDCP(
            K=K,
            K_adjoint=K_adjoint,
            data_fidelity=deepinv.optim.L2(),
            prior=deepinv.optim.L1Prior(),
            lambda_reg=problem.lam,
            stepsize=1 / (8 * sigma),
            stepsize_dual=sigma,
            g_first=True,
            max_iter=iterations,
            custom_metrics=None if look is None else {"look": metric},
            custom_init=lambda y, physics: {"est": (zero, zero, K(zero))},
        )
        with torch.inference_mode():
            try:
                found = solver(y, physics, compute_metrics=look is not None)
            except Enough:
                return None
        return image(found[0] if look is not None else found)

    return run


CONTESTANTS = {"deepinv PDCP": pdcp}
