# SPDX-License-Identifier: MIT
"""Chambolle and Pock's primal-dual algorithm in NumPy, the data term by its closed proximal map."""

import numpy as np
from benchopt import BaseSolver


class Solver(BaseSolver):
    """`sigma` is the dual step; the primal one is 1 / (8 sigma), for ||D||^2 <= 8."""

    name = "NumPy PDHG"
    parameters = {"sigma": [0.1, 0.3]}

    def set_objective(self, mask, y, lam):
        """The mask and the zero-filled image, with the zero frequency in the corner."""
        spectrum = np.zeros(mask.shape, "complex128")
        spectrum[mask] = y
        self.mask, self.lam = np.fft.ifftshift(mask), lam
        self.zero_filled = np.fft.ifft2(np.fft.ifftshift(spectrum), norm="ortho")

    def run(self, iterations):
        """So many iterations from the start."""
        tau = 1 / (8 * self.sigma)
        x = np.zeros(self.mask.shape, "complex128")
        bar, p = x, np.zeros((2, *x.shape), "complex128")
        for _ in range(iterations):
            p = p + self.sigma * np.stack([np.roll(bar, -1, 0) - bar, np.roll(bar, -1, 1) - bar])
            p = np.clip(p.view("float64"), -self.lam, self.lam).view("complex128")
            v = x - tau * (np.roll(p[0], 1, 0) - p[0] + np.roll(p[1], 1, 1) - p[1])
            gram = np.fft.ifft2(self.mask * np.fft.fft2(v))
            x, before = v + tau / (1 + tau) * (self.zero_filled - gram), x
            bar = 2 * x - before
        self.x = np.fft.fftshift(x)

    def get_result(self):
        """The image."""
        return {"x": self.x}
