# SPDX-License-Identifier: MIT
"""How large an artifact is, and how good a reconstruction.

Images are (..., rows, cols), real or complex. Each measure is taken over the last two axes: one image gives a float, a
batch an array of its leading shape.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = [
    "amplification",
    "argmax_location",
    "kernel_share",
    "lipschitz",
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


def ssim(x, reference):
    """Structural similarity of the moduli with the range of |reference|, by scikit-image's defaults; at most 1."""
    try:
        from skimage.metrics import structural_similarity
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "skimage":
            raise
        raise ImportError("ssim needs scikit-image: pip install scikit-image") from None
    x, reference = (np.abs(v).astype(float) for v in _pair(x, reference))
    if x.shape != reference.shape:
        raise ValueError(f"expected as many images as references, got {x.shape} and {reference.shape}")
    lead, shape = x.shape[:-2], x.shape[-2:]
    pairs = zip(x.reshape(-1, *shape), reference.reshape(-1, *shape), strict=True)
    values = [structural_similarity(a, b, data_range=float(np.ptp(b))) for a, b in pairs]
    return _number(np.array(values).reshape(lead)[()])


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
