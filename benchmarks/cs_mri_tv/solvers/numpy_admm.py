# SPDX-License-Identifier: MIT
"""Boyd's over-relaxed ADMM in NumPy: two FFTs an iteration, nothing shifted in the loop."""

import numpy as np
from benchopt import BaseSolver


class Solver(BaseSolver):
    """`rho` is the penalty, `relax` the over-relaxation."""

    name = "NumPy ADMM"
    parameters = {"rho": [0.1, 0.3], "relax": [1.0, 1.8]}

    def set_objective(self, mask, y, lam):
        """The data and the inverse of the x-update, with the zero frequency in the corner."""
        spectrum = np.zeros(mask.shape, "complex128")
        spectrum[mask] = y
        k = [2 - 2 * np.cos(2 * np.pi * np.arange(n) / n) for n in mask.shape]
        diagonal = np.fft.ifftshift(mask) + self.rho * (k[0][:, None] + k[1])
        self.inverse = np.divide(1, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
        self.data, self.t = np.fft.ifftshift(spectrum), lam / self.rho

    def run(self, iterations):
        """So many iterations from the start."""
        z = np.zeros((2, *self.data.shape), "complex128")
        u, x = z, np.fft.ifft2(self.data, norm="ortho")
        for _ in range(iterations):
            d0, d1 = z - u
            back = np.roll(d0, 1, 0) - d0 + np.roll(d1, 1, 1) - d1
            x = np.fft.ifft2((self.data + self.rho * np.fft.fft2(back, norm="ortho")) * self.inverse, norm="ortho")
            d = np.stack([np.roll(x, -1, 0) - x, np.roll(x, -1, 1) - x])
            v = u + self.relax * d + (1 - self.relax) * z
            u = np.clip(v.view("float64"), -self.t, self.t).view("complex128")
            z = v - u
        self.x = np.fft.fftshift(x)

    def get_result(self):
        """The image."""
        return {"x": self.x}
