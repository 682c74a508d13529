# SPDX-License-Identifier: MIT
"""Attack a reconstruction of your own: anything with vjp(y) -> (x, pullback). Here a ridge on the gradient."""

import numpy as np

import kspike


class Ridge:
    """x = argmin 1/2 ||A x - y||^2 + mu/2 ||D x||^2, by conjugate gradients; linear in y."""

    def __init__(self, mask, mu):
        self.A, self._D, self._mu = kspike.MaskedFourier(mask), kspike.Gradient(mask.shape), mu

    def __call__(self, y):
        """x, from samples (m,)."""
        return self._solve(self.A.adjoint(y))

    def vjp(self, y):
        """The pair of x and the pullback: the map A* y -> x is symmetric, so the pullback is A of the same solve."""
        return self(y), lambda g: self.A(self._solve(g))

    def _solve(self, b, iterations=30):
        x, r = np.zeros_like(b), b.copy()
        d, rr = r, np.vdot(r, r).real
        for _ in range(iterations):
            q = self.A.adjoint(self.A(d)) + np.float32(self._mu) * self._D.adjoint(self._D(d))
            step = np.float32(rr / np.vdot(d, q).real)
            x, r = x + step * d, r - step * q
            rr, before = np.vdot(r, r).real, rr
            d = r + np.float32(rr / before) * d
        return x


mask = kspike.radial_mask((96, 96), lines=18)
x = kspike.ellipses((96, 96), seed=0)
ridge, tv = Ridge(mask, mu=0.01), kspike.TVSolver(mask, lam=5.6e-3)
y = tv.A(x)
for name, rec in (("ridge", ridge), ("total variation", tv)):
    found = kspike.attack(rec, y, noise=0.04, grid=(2, 2))
    psnr = kspike.metrics.psnr(found.clean, x)
    print(f"{name}: PSNR {psnr:.1f} dB, alpha {found.amplification:.2f}, artifact {found.artifact_max:.2f}")
