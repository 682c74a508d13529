# SPDX-License-Identifier: MIT
"""PyProximal: PrimalDual on PyLops operators, differences by Roll, the data term by its closed proximal map."""

import numpy as np

FUNCTIONAL = "modulus"
LADDER = False
SETTINGS = tuple({"sigma": sigma} for sigma in (0.1, 0.05, 0.03, 0.02, 0.2, 0.3, 0.5, 1))


def primal_dual(problem, dtype, threads, sigma):
    """pyproximal.optimization.primaldual.PrimalDual."""
    import pylops
    import pyproximal
    from pyproximal.optimization.primaldual import PrimalDual
    from scipy import fft

    shape = problem.mask.shape
    data, mask, _ = problem.corner(dtype)
    options = {"norm": "ortho", "workers": threads}
    zero_filled = fft.ifft2(data, **options).ravel()
    identity = pylops.Identity(problem.mask.size, dtype=dtype)
    D = pylops.VStack([pylops.Roll(shape, axis=a, shift=-1, dtype=dtype) - identity for a in (0, 1)])

    class Data(pyproximal.ProxOperator):
        """1/2 ||A x - y||^2 on images that are ifftshifted."""

        def __init__(self):
            super().__init__(None, False)

        def __call__(self, x):
            return 0.0

        def prox(self, v, tau):
            gram = fft.ifft2(mask * fft.fft2(v.reshape(shape), **options), **options).ravel()
            return v + tau / (1 + tau) * (zero_filled - gram)

    class L1(pyproximal.L1):
        """L1 for complex numbers: its own proxdual, a box, orders them by their real part."""

        def proxdual(self, x, tau):
            return self._proxdual_moreau(x, tau)

    f, g = Data(), L1(sigma=problem.lam)

    def run(iterations, look=None):
        class Enough(Exception):
            """Looked long enough."""

        seen = {}

        def callback(x):
            seen["x"], seen["k"] = x, seen.get("k", 0) + 1
            if look(seen["k"], np.fft.fftshift(x.reshape(shape))):
                raise Enough

        try:
            x = PrimalDual(
                f,
                g,
                D,
                np.zeros(problem.mask.size, dtype),
                tau=1 / (8 * sigma),
                mu=sigma,
                niter=iterations,
                callback=None if look is None else callback,
            )
        except Enough:
            x = seen["x"]
        return np.fft.fftshift(x.reshape(shape))

    return run


CONTESTANTS = {"PyProximal": primal_dual}
