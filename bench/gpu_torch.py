# SPDX-License-Identifier: MIT
"""The paper's reconstruction as its code writes it, in torch: real and imaginary parts as channels, four transforms an
iteration, and the objective and both residuals evaluated at each, which waits for the device three times.
"""

import numpy as np


class Loop:
    """ADMM with three variables on a mask and samples y (batch, m); the centring is absorbed, as everywhere here."""

    def __init__(self, torch, device, mask, y, lam, rho):
        self.torch, self.mask, self.lam, self.rho, self.t = torch, mask, lam, rho, lam / rho
        full = np.zeros((len(y), *mask.shape), np.complex64)
        full[:, mask] = y
        self.k = torch.from_numpy(np.fft.ifftshift(full, (-2, -1))).to(device)
        self.sampled = torch.from_numpy(np.fft.ifftshift(mask)).to(device)
        rows, cols = (torch.from_numpy(2 - 2 * np.cos(2 * np.pi * np.arange(n) / n)) for n in mask.shape)
        symbol = (rows[:, None] + cols).to(torch.float32).to(device)
        self.inverse = 1 / (self.sampled + rho * symbol)

    def fourier(self, v):
        """Channels to a spectrum."""
        return self.torch.fft.fft2(self.torch.complex(v[:, 0], v[:, 1]), norm="ortho")

    def image(self, k):
        """A spectrum to channels."""
        x = self.torch.fft.ifft2(k, norm="ortho")
        return self.torch.stack([x.real, x.imag], 1)

    def grad(self, x):
        """(batch, 2, rows, cols) -> (batch, 4, rows, cols)."""
        return self.torch.cat([x.roll(-1, -2) - x, x.roll(-1, -1) - x], 1)

    def grad_adjoint(self, d):
        """Its adjoint."""
        d0, d1 = d[:, :2], d[:, 2:]
        return d0.roll(1, -2) - d0 + d1.roll(1, -1) - d1

    def shrink(self, v):
        """Soft thresholding of each channel."""
        return self.torch.sign(v) * self.torch.clamp(v.abs() - self.t, min=0)

    def run(self, k, iterations, relax=1.0):
        """From z = u = 0."""
        z = self.torch.zeros((len(k), 4, *k.shape[1:]), device=k.device)
        u = self.torch.zeros_like(z)
        self.history = []
        for _ in range(iterations):
            right = self.image(k) + self.rho * self.grad_adjoint(z - u)
            x = self.image(self.inverse * self.fourier(right))
            before, h = z, relax * self.grad(x) + (1 - relax) * z
            z = self.shrink(h + u)
            u = u + h - z
            misfit = self.sampled * (self.fourier(x) - k)
            loss = 0.5 * (misfit.abs() ** 2).sum() + self.lam * self.grad(x).abs().sum()
            primal, dual = (self.grad(x) - z).norm(), self.rho * self.grad_adjoint(z - before).norm()
            self.history.append((loss.item(), primal.item(), dual.item()))
        return x

    def published(self, iterations, relax=1.0):
        """The last x, complex on the host, centred."""
        with self.torch.no_grad():
            x = self.run(self.k, iterations, relax)
        return self._host(x)

    def gradient(self, g, iterations, relax=1.0):
        """dL/dy of dL/dx = g, (batch, m), by autograd through the loop; of ones where g is None."""
        k = self.k.clone().requires_grad_()
        x = self.run(self.sampled * k, iterations, relax)
        weight = self.torch.ones_like(x)
        if g is not None:
            parts = np.stack([g.real, g.imag], 1)
            weight = self.torch.from_numpy(np.fft.ifftshift(parts, (-2, -1))).to(x.device)
        (x * weight).sum().backward()
        return np.fft.fftshift(k.grad.cpu().numpy(), (-2, -1))[:, self.mask]

    def _host(self, x):
        parts = np.fft.fftshift(x.cpu().numpy(), (-2, -1))
        return parts[:, 0] + 1j * parts[:, 1]
