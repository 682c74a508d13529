# SPDX-License-Identifier: MIT
"""How large an artifact is, and how good a reconstruction.

Images are (..., rows, cols), real or complex. Each measure is taken over the last two axes: one image gives a float, a
batch an array of its leading shape.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from kspike import door

__all__ = [
    "amplification",
    "argmax_location",
    "kernel_share",
    "lipschitz",
    "local_damage",
    "local_l2",
    "max_modulus",
    "psnr",
    "relative_l2",
    "ssim",
]

AXES = (-2, -1)


def max_modulus(x):
    """||x||_inf = max |x_ij|."""
    return _number(np.abs(_image(x)).max(AXES))


def amplification(artifact, image_perturbation):
    """||artifact||_inf / ||image_perturbation||_inf = alpha, of moduli.

    The artifact is the paper's rho = rec(y + e) - rec(y), the image perturbation its r = A* e (arXiv 2206.05289).
    Infinite where the perturbation is zero and the artifact is not; NaN where both are.
    """
    artifact, image_perturbation = _pair(artifact, image_perturbation)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _number(np.abs(artifact).max(AXES) / np.abs(image_perturbation).max(AXES))


def argmax_location(x):
    """(row, col) of the largest modulus, the first in C order; for a batch an int array (..., 2)."""
    x = np.abs(_image(x))
    flat = x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1]).argmax(-1)
    location = np.stack(np.divmod(flat, x.shape[-1]), axis=-1)
    return (int(location[0]), int(location[1])) if location.ndim == 1 else location


def local_l2(artifact, location, radius):
    """(sum |artifact_p|^2 over the pixels p with |p - location| <= radius)^(1/2); the disk ends at the border."""
    artifact = _image(artifact)
    rows, cols = artifact.shape[-2:]
    row, col = location
    if not (0 <= row < rows and 0 <= col < cols):
        raise ValueError(f"expected a location (row, col) inside {rows} x {cols}, got ({row}, {col})")
    if not radius >= 0:
        raise ValueError(f"expected radius >= 0, got {radius}")
    disk = np.hypot(np.arange(rows)[:, None] - row, np.arange(cols) - col) <= radius
    return _number(np.linalg.norm(artifact[..., disk], axis=-1))


def local_damage(artifact):
    """max_r max_p (mean of |artifact|^2 over the disk of radius r about p)^(1/2) / tau_r: the noise it is as bad as.

    r runs over 0, 1, 2, 4, ... up to a quarter of the shorter side, and the whole image; disks are periodic. tau_r is
    such that real white Gaussian noise of standard deviation sigma exceeds sigma tau_r somewhere with probability at
    most 1 / (2 radii), by the union over all places. So such noise has a local damage of at most sigma with probability
    at least 1/2 (measured: the median is 0.98 to 1.00 sigma from 32 x 32 to 256 x 256), and the local damage of an
    artifact is the standard deviation of the noise whose worst place is as bad, in units of the image. In 256 x 256
    pixels a spike of height h has h / 4.9, a disk of radius 8 has h / 1.25. It is a norm: two artifacts together are at
    most as bad as their sum.
    """
    artifact = _image(artifact)
    rows, cols = artifact.shape[-2:]
    power = np.abs(artifact).astype(np.float64) ** 2
    radii = [0, *(2**k for k in range(32) if 2**k <= min(rows, cols) // 4)]
    spectrum = np.fft.rfft2(power) if len(radii) > 1 else None
    away = [np.minimum(np.arange(n), n - np.arange(n)) for n in (rows, cols)]
    means = [power.mean(AXES)]
    counts = [rows * cols]
    for radius in radii:
        disk = away[0][:, None] ** 2 + away[1] ** 2 <= radius**2
        counts.append(int(disk.sum()))
        sums = power if radius == 0 else np.fft.irfft2(spectrum * np.fft.rfft2(disk.astype(float)), (rows, cols))
        means.append(np.maximum(sums.max(AXES), 0) / counts[-1])
    tests = (rows * cols, len(counts))
    return _number(np.sqrt(np.max([m / _threshold(k, *tests) for m, k in zip(means, counts, strict=True)], axis=0)))


@functools.cache
def _threshold(count, places, radii):
    """The t with P(X > t count) = 1 / (2 places radii), X chi-squared with `count` degrees of freedom; by bisection."""
    places = 1 if count == places else places
    low, high = 0.0, 2.0
    while _tail(count, high) > 0.5 / (places * radii):
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(count, middle) > 0.5 / (places * radii) else (low, middle)
    return high


def _tail(count, t):
    """P(X > t count), X chi-squared of `count` degrees of freedom: Q(a + 1, x) = Q(a, x) + x^a e^-x / Gamma(a + 1).

    Beyond 10^4 degrees of freedom by Wilson and Hilferty's normal approximation of the cube root.
    """
    a, x = count / 2, t * count / 2
    if x <= 0:
        return 1.0
    if count > 10_000:
        spread = 2 / (9 * count)
        return 0.5 * math.erfc((t ** (1 / 3) - 1 + spread) / math.sqrt(2 * spread))
    total = math.erfc(math.sqrt(x)) if count % 2 else math.exp(-x)
    return total + sum(math.exp(k * math.log(x) - x - math.lgamma(k + 1)) for k in np.arange(1 - count % 2 / 2, a))


def relative_l2(x, reference):
    """||x - reference||_2 / ||reference||_2; infinite or NaN where the reference is zero."""
    x, reference = _pair(x, reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _number(np.linalg.norm(x - reference, axis=AXES) / np.linalg.norm(reference, axis=AXES))


def psnr(x, reference, peak=None):
    """20 log10(peak sqrt(rows cols) / ||x - reference||_2) in dB; infinite for equal images.

    The peak is ||reference||_inf unless given.
    """
    x, reference = _pair(x, reference)
    if peak is not None and not peak > 0:
        raise ValueError(f"expected peak > 0, got {peak}")
    peak = np.abs(reference).max(AXES) if peak is None else peak
    root = math.sqrt(x.shape[-2] * x.shape[-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        return _number(20 * np.log10(peak * root / np.linalg.norm(x - reference, axis=AXES)))


def kernel_share(artifact, A):
    """||(I - A*A) artifact||_2^2 / ||artifact||_2^2: how much of it the measurements cannot see; A A* = I."""
    artifact = _image(artifact)
    total = np.linalg.norm(artifact, axis=AXES) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return _number(1 - np.linalg.norm(A(artifact), axis=-1) ** 2 / total)


def lipschitz(artifact, perturbation):
    """||artifact||_2 / ||perturbation||_2, a lower bound on the local Lipschitz constant; perturbation (..., m)."""
    artifact = _image(artifact)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _number(np.linalg.norm(artifact, axis=AXES) / np.linalg.norm(perturbation, axis=-1))


def ssim(x, reference, window=7):
    """Structural similarity of the moduli a and b = |reference|, at most 1: the mean over all windows of

        (2 ma mb + C1) (2 cov + C2) / ((ma^2 + mb^2 + C1) (va + vb + C2)),  C1 = (0.01 L)^2,  C2 = (0.03 L)^2,

    L = max b - min b, with means, and variances over count - 1, on squares of `window` pixels inside the image. Wang et
    al. (2004); the numbers are those of scikit-image's defaults. NaN where b is constant and a is the same.
    """
    a, b = (np.abs(v).astype(float) for v in _pair(x, reference))
    if a.shape != b.shape:
        raise ValueError(f"expected as many images as references, got {a.shape} and {b.shape}")
    window = door.whole("window", window, 2)
    if min(a.shape[-2:]) < window:
        raise ValueError(f"ssim: expected images of at least {window} x {window}, got {a.shape}")
    ma, mb = _means(a, window), _means(b, window)
    bessel = window**2 / (window**2 - 1)
    va, vb, cov = (bessel * (_means(p, window) - q) for p, q in ((a * a, ma * ma), (b * b, mb * mb), (a * b, ma * mb)))
    size = np.ptp(b, AXES)[..., None, None]
    c1, c2 = (0.01 * size) ** 2, (0.03 * size) ** 2
    with np.errstate(invalid="ignore"):
        similar = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return _number(similar.mean(AXES))


def _means(a, window):
    """The mean of every square of window x window pixels: (..., rows - window + 1, cols - window + 1)."""
    squares = np.lib.stride_tricks.sliding_window_view(a, window, axis=-2).mean(-1)
    return np.lib.stride_tricks.sliding_window_view(squares, window, axis=-1).mean(-1)


def _image(x):
    """An array with two axes of pixels, checked; integers and booleans become float64."""
    x = np.asarray(x)
    if x.dtype.kind not in "biufc" or x.ndim < 2 or 0 in x.shape[-2:]:
        raise ValueError(f"expected numbers of shape (..., rows, cols), got {x.dtype} of shape {x.shape}")
    return x if x.dtype.kind in "fc" else x.astype(np.float64)


def _pair(x, reference):
    """Two arrays of images with the same rows and columns, checked."""
    x, reference = _image(x), _image(reference)
    if x.shape[-2:] != reference.shape[-2:]:
        raise ValueError(f"expected two arrays of the same image shape, got {x.shape} and {reference.shape}")
    return x, reference


def _number(value):
    """A float for a single image, an array for a batch."""
    return float(value) if np.ndim(value) == 0 else value
