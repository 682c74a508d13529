# SPDX-License-Identifier: MIT
"""ODL: its pdhg with its periodic Gradient; the data term by its closed proximal map, with SciPy's transforms."""

import numpy as np

FUNCTIONAL = "modulus"
LADDER = False
SETTINGS = tuple({"sigma": sigma} for sigma in (0.1, 0.05, 0.03, 0.02, 0.2, 0.3, 0.5, 1))


def pdhg(problem, dtype, threads, sigma):
    """odl.solvers.pdhg; ODL's own Fourier transform is scaled otherwise."""
    import odl
    from scipy import fft

    n = problem.n
    space = odl.uniform_discr([0, 0], [n, n], (n, n), dtype=dtype)
    D = odl.Gradient(space, method="forward", pad_mode="periodic")
    data, mask, _ = problem.corner(dtype)
    options = {"norm": "ortho", "workers": threads}
    zero_filled = fft.ifft2(data, **options)

    class Data(odl.functionals.Functional):
        """1/2 ||A x - y||^2 on images that are ifftshifted."""

        def __init__(self):
            super().__init__(space=space, linear=False)

        @property
        def proximal(self):
            def factory(tau):
                class Prox(odl.Operator):
                    def __init__(self):
                        super().__init__(space, space, linear=False)

                    def _call(self, v):
                        v = v.asarray()
                        return space.element(
                            v + tau / (1 + tau) * (zero_filled - fft.ifft2(mask * fft.fft2(v, **options), **options))
                        )

                return Prox()

            return factory

    g = problem.lam * odl.functionals.GroupL1Norm(D.range, exponent=1)

    def run(iterations, look=None):
        x, count = space.zero(), 0

        def callback(x):
            nonlocal count
            count += 1
            if look is not None and look(count, np.fft.fftshift(x.asarray())):
                raise StopIteration

        try:
            odl.solvers.pdhg(x, Data(), g, D, iterations, tau=1 / (8 * sigma), sigma=sigma, callback=callback)
        except StopIteration:
            pass
        return np.fft.fftshift(x.asarray())

    return run


CONTESTANTS = {"ODL PDHG": pdhg}
