# SPDX-License-Identifier: MIT
"""The problem that all solve, the objective that each one has, in plain NumPy and double precision.

argmin_x 1/2 ||A x - y||^2 + lam TV(x): an image of random ellipses, 40 golden-angle lines, 1 % Gaussian noise. TV is
the contestant's own, of periodic differences:

    separable   sum |Re d| + |Im d|                       kspike's, robust-nets'
    modulus     sum |d|                                   SigPy, SCICO, ODL; forward or backward is the same sum
    backward    sum sqrt(|d0|^2 + |d1|^2), d backward     BART
"""

import math

import numpy as np

LINES, NOISE, LAM, SEED = 40, 0.01, 1e-3, 3
FUNCTIONALS = ("separable", "modulus", "backward")
SAME = {  # whose iterations are those of another, so that they are counted once
    "kspike numba": "kspike cpp",
    "kspike reference": "kspike cpp",
    "textbook NumPy": "textbook torch",
    "ODL PDHG": "SigPy PDHG",
    "PyProximal": "SigPy PDHG",
}


def fourier(x):
    """F x, centred and orthonormal."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x), norm="ortho"))


class Problem:
    """What a file of `write` holds: mask (n, n), y (m,) complex128, lam, and bounds {functional: (lower, upper)}."""

    def __init__(self, path):
        held = np.load(path)
        self.mask, self.y, self.lam = held["mask"], held["y"], float(held["lam"])
        self.n = len(self.mask)
        self.bounds = {name: tuple(held[name]) for name in FUNCTIONALS if name in held}
        self.gradient = {int(k.split()[1]): held[k] for k in held if k.startswith("gradient")}

    def spectrum(self, dtype):
        """The zero-filled centred spectrum of y."""
        k = np.zeros(self.mask.shape, dtype)
        k[self.mask] = self.y
        return k

    def corner(self, dtype):
        """The spectrum, mask and symbol of D*D with the zero frequency at [0, 0], and the phase that centres images.

        F_centred x = fftshift(fft2(ifftshift(x))): solved without shifts, an image comes out ifftshifted.
        """
        real = np.zeros(0, dtype).real.dtype
        k = 2 - 2 * np.cos(2 * np.pi * np.arange(self.n) / self.n)
        shift = np.fft.ifftshift
        return shift(self.spectrum(dtype)), shift(self.mask).astype(real), (k[:, None] + k).astype(real)

    def objective(self, x, functional):
        """The objective of a centred image, in double precision."""
        x = np.asarray(x, "complex128")
        step = 1 if functional == "backward" else -1
        d = np.stack([np.roll(x, step, axis) - x for axis in (0, 1)])
        if functional == "separable":
            tv = np.abs(d.real).sum() + np.abs(d.imag).sum()
        else:
            tv = np.abs(d).sum() if functional == "modulus" else np.sqrt((np.abs(d) ** 2).sum(0)).sum()
        return 0.5 * np.linalg.norm(fourier(x)[self.mask] - self.y) ** 2 + self.lam * tv

    def gap(self, x, functional):
        """The certified relative gap: (objective - lower bound of the optimum) / lower bound."""
        lower, _ = self.bounds[functional]
        return (self.objective(x, functional) - lower) / lower


def write(path, n, gradients=()):
    """Make the problem of size n: bound the optima to 2e-8 (beyond 256: 1e-7), and differentiate."""
    import kspike

    mask, rng = kspike.radial_mask((n, n), LINES), np.random.default_rng(SEED)
    A = kspike.MaskedFourier(mask, dtype="complex128", threads=2)
    clean = A(kspike.ellipses((n, n), seed=SEED).astype("float64"))
    e = rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape)
    y = clean + NOISE * np.linalg.norm(clean) / np.linalg.norm(e) * e
    held = {"mask": mask, "y": y, "lam": LAM}
    for functional in FUNCTIONALS:
        held[functional] = bounds(mask, y, functional)
    for iterations in gradients:
        _, pullback = kspike.TVSolver(mask, LAM, rho=RHO, relax=1.0, dtype="complex128").vjp(y, iterations=iterations)
        held[f"gradient {iterations}"] = pullback(A.adjoint(y))
    np.savez(path, **held)


RHO = 0.05  # of the unrolled iterations that are differentiated


def bounds(mask, y, functional):
    """(lower, upper) of the optimum: kspike's dual and primal values in double precision.

    Backward differences of an image are forward ones of its mirror, whose spectrum is mirrored.
    """
    import kspike

    norm = {"separable": "separable", "modulus": "modulus", "backward": "isotropic"}[functional]
    if functional == "backward":
        k = np.zeros(mask.shape, "complex128")
        k[mask] = y
        mask, k = (mirror(v) for v in (mask, k))
        mask, y = np.ascontiguousarray(mask), k[mask]
    tv = kspike.TVSolver(mask, LAM, rho=0.3, dtype="complex128", norm=norm, threads=2)
    aim, state = 2e-8 if len(mask) <= 256 else 1e-7, None
    for _ in range(40):
        info = state = tv.solve(y, 250, 0, state=state)
        proof = info.certificate
        if proof.relative <= aim:
            break
    return proof.objective - proof.gap, proof.objective


def mirror(v):
    """v[-i, -j], the indices counted from n // 2."""
    return np.fft.fftshift(np.roll(np.fft.ifftshift(v)[::-1, ::-1], (1, 1), (0, 1)))


def ahead(k, curve, left):
    """How many iterations to try next: where the last two gaps meet the aim, 3 to 40 % on; 8 % unless they fall."""
    least, most = k + max(2, k // 33), k + max(5, 2 * k // 5)
    if len(curve) < 2 or not left:
        return most
    (k0, gap0), (k1, gap1) = curve[-2:]
    if not 0 < gap1 < gap0 < math.inf:
        return k + max(2, k // 12)
    slope = math.log(gap1 / gap0) / (k1 - k0)
    return min(most, max(least, int(k + math.log(left[0] / gap1) / slope)))
