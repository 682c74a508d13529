# SPDX-License-Identifier: MIT
"""The two halves of an iteration on the GPU: each method prepares a launch, its arguments in the order of the kernel's.

g is the right-hand side of the x-update and f its result, in the form that suits the passes: spectra of rows where the
row pass is fused, images where it is not.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from kspike._backends.cuda_launch import bind, cupy, cupyx
from kspike._backends.cuda_sources import launch_sizes

__all__ = ["CuFFT", "Fused", "OwnFFT", "Pixelwise", "choose", "pixels"]

GROUP = {"modulus": 2, "isotropic": 4}  # how many parts of the gradient of a pixel shrink together


def choose(shape, dtype, norm):
    """The passes for a size and a norm on the current device."""
    if norm == "separable" and Fused.serves(shape, dtype):
        return Fused(shape, dtype)
    return Pixelwise(shape, dtype, norm, OwnFFT if OwnFFT.serves(shape, dtype) else CuFFT)


def pixels(name, dtype, batch, rows, cols, *arguments, file="stencil.cu", defines=()):
    """A launch of a kernel that has one thread a pixel; sizes are its last arguments."""
    grid = (-(-cols // 32), -(-rows // 8), batch)
    return bind(file, name, dtype, grid, (32, 8), (*arguments, rows, cols), defines=defines)


def _sizes(kind, n, dtype):
    device = cupy.cuda.Device()
    limit = device.attributes["MaxSharedMemoryPerBlockOptin"]
    return launch_sizes(kind, n, dtype, int(device.compute_capability), limit)


class OwnFFT:
    """Our transforms between images and spectra, unscaled: powers of two from 64 to 4096, rows and columns apart."""

    graphs = True  # its launches may be captured

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, dtype
        self.cols, self.lines = _sizes("cols", shape[0], dtype), _sizes("lines", shape[1], dtype)
        self.twiddles = [cupy.asarray(np.exp(-2j * np.pi * np.arange(n) / n).astype(dtype)) for n in shape]

    @staticmethod
    def serves(shape, dtype):
        """Whether there are transforms of these lengths, in the shared memory that this device has."""
        return all(_sizes(kind, n, dtype) for kind, n in zip(("cols", "lines"), shape, strict=True))

    def _cols(self, name, batch, *arguments):
        s, grid = self.cols, (self.shape[1] // self.cols.covers, batch)
        return bind("cols.cu", name, self.dtype, grid, s.block, (*arguments, self.shape[1]), s.shared, s.defines)

    def rows(self, name, out, x):
        """lines_forward or lines_inverse; out may be x."""
        s, lines = self.lines, len(x) * self.shape[0]
        grid, arguments = (-(-lines // s.covers),), (out, x, self.twiddles[1], lines)
        return bind("lines.cu", name, self.dtype, grid, s.block, arguments, s.shared, s.defines)

    def forward(self, spectrum, image):
        """The launches of a transform of rows, then of columns."""
        cols = self._cols("cols_forward", len(image), spectrum, spectrum, self.twiddles[0])
        return [self.rows("lines_forward", spectrum, image), cols]

    def inverse(self, image, spectrum):
        """Those of its inverse, which also overwrites the spectrum."""
        cols = self._cols("cols_inverse", len(image), spectrum, spectrum, self.twiddles[0])
        return [cols, self.rows("lines_inverse", image, spectrum)]

    def cols_resolvent(self, f, g, *arguments, count=None, step=0):
        """The column pass, from spectra of rows to spectra of rows."""
        return self._cols("cols_resolvent", len(f), f, g, *arguments, self.twiddles[0], count, step)

    def resolvent(self, f, g, *arguments, count=None, step=0):
        """The x-update from images to images."""
        enter, leave = self.rows("lines_forward", f, g), self.rows("lines_inverse", f, f)
        return [enter, self.cols_resolvent(f, f, *arguments, count=count, step=step), leave]


class CuFFT:
    """cuFFT between images and spectra, unscaled, in place after a copy, and the x-update as one launch: every size."""

    graphs = False  # whether cuFFT's launches survive a capture has to be seen on a device first

    def __init__(self, shape, dtype):
        self.shape, self.dtype, self.plans = shape, dtype, {}

    def _transform(self, x, direction):
        if len(x) not in self.plans:
            self.plans = {len(x): cupyx.scipy.fft.get_fft_plan(x, axes=(-2, -1))}
        return functools.partial(self.plans[len(x)].fft, x, x, getattr(cupy.cuda.cufft, direction))

    def forward(self, spectrum, image):
        """A copy and a transform."""
        return [*_copied(spectrum, image), self._transform(spectrum, "CUFFT_FORWARD")]

    def inverse(self, image, spectrum):
        """A copy and an inverse transform."""
        return [*_copied(image, spectrum), self._transform(image, "CUFFT_INVERSE")]

    def resolvent(self, f, g, *arguments, count=None, step=0):
        """The x-update from images to images."""
        grid = (-(-math.prod(self.shape) // 256), len(f))
        solve = bind("kspace.cu", "resolvent", self.dtype, grid, (256,), (f, *arguments, count, step, *self.shape))
        return [*self.forward(f, g), solve, self._transform(f, "CUFFT_INVERSE")]


def _copied(out, x):
    return [] if out is x else [functools.partial(cupy.copyto, out, x)]


class Fused:
    """Two launches an iteration, on our transforms: the pass over columns, and that over rows with all stencils."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype, self.fft = shape, dtype, OwnFFT(shape, dtype)
        self.sizes, self.twiddle = _sizes("rows", shape[1], dtype), self.fft.twiddles[1]
        self.resolvent = lambda f, g, *arguments, **steps: [self.fft.cols_resolvent(f, g, *arguments, **steps)]

    @staticmethod
    def serves(shape, dtype):
        """Whether the rows, with one more above and one below, fit into the shared memory of this device."""
        return OwnFFT.serves(shape, dtype) and _sizes("rows", shape[1], dtype) is not None

    def tape(self, steps, batch):
        """Room for the supports of some steps: 4 bits a pixel, words of 32."""
        return cupy.empty((steps, batch, self.shape[0], -(-self.shape[1] // 8)), np.uint32)

    def record(self, bits, w, t):
        """The support of w to one step of a tape."""
        return _record(self, bits, w, t)

    def enter(self, g, image):
        """G from an image."""
        return [self.fft.rows("lines_forward", g, image)]

    def leave(self, image, f):
        """An image from f."""
        return [self.fft.rows("lines_inverse", image, f)]

    def _rows(self, name, batch, *arguments):
        s, grid = self.sizes, (-(-self.shape[0] // self.sizes.covers), batch)
        return bind("rows.cu", name, self.dtype, grid, s.block, (*arguments, self.shape[0]), s.shared, s.defines)

    def reflect(self, g, w, t):
        """G = D*(w - 2 clip(w, t))."""
        return [self._rows("rows_reflect", len(w), g, w, t, self.twiddle)]

    def reflect_tangent(self, g, w, bits):
        """G = D*((2 S - 1) w)."""
        return [self._rows("rows_reflect_tangent", len(w), g, w, bits, self.twiddle)]

    def update(self, g, w_next, x, f, w, bits, t, relax, live=None):
        """The iteration after its x-update: x from f, the next w, its g; g, x and bits may be None."""
        return [self._rows("rows_update", len(w), g, w_next, x, f, w, bits, t, relax, self.twiddle, live, 0)]

    def update_tangent(self, g, w_next, x, f, w, bits, relax):
        """That of the tangent."""
        return [self._rows("rows_update_tangent", len(w), g, w_next, x, f, w, bits, relax, self.twiddle)]

    def update_adjoint(self, g, w_next, f, w, bits, relax, rho, count, step):
        """That of the reverse sweep."""
        arguments = g, w_next, None, f, w, bits, relax, rho, self.twiddle, count, step
        return [self._rows("rows_update_adjoint", len(w), *arguments)]


class Pixelwise:
    """One launch for all that happens in image space, transforms apart: for every size, and for the joint norms."""

    def __init__(self, shape, dtype, norm, fft):
        self.shape, self.dtype, self.norm, self.fft = shape, dtype, norm, fft(shape, dtype)
        self.resolvent = self.fft.resolvent
        joint = norm != "separable"
        self._kernels = dict(file="norms.cu", defines=(("KS_GROUP", GROUP[norm]),)) if joint else {}

    def tape(self, steps, batch):
        """Room for the supports of some steps: 4 bits a pixel, or a field in a joint norm."""
        if self.norm != "separable":
            return cupy.empty((steps, batch, 2, *self.shape), self.dtype)
        return cupy.empty((steps, batch, self.shape[0], -(-self.shape[1] // 8)), np.uint32)

    def record(self, bits, w, t):
        """The support of w to one step of a tape."""
        return _record(self, bits, w, t) if self.norm == "separable" else self._pixels("record", len(w), bits, w, t)

    def _pixels(self, name, batch, *arguments):
        return pixels(name, self.dtype, batch, *self.shape, *arguments, **self._kernels)

    def enter(self, g, image):
        """G from an image."""
        return _copied(g, image)

    def leave(self, image, f):
        """An image from f."""
        return _copied(image, f)

    def reflect(self, g, w, t):
        """G = D*(w - 2 clip(w, t))."""
        return [self._pixels("reflect", len(w), g, w, t)]

    def reflect_tangent(self, g, w, bits):
        """G = D*((2 S - 1) w)."""
        return [self._pixels("begin_tangent", len(w), g, w, bits)]

    def update(self, g, w_next, x, f, w, bits, t, relax, live=None):
        """The iteration after its x-update: x from f, the next w, its g; g, x and bits may be None."""
        update = self._pixels("update", len(w), g, w_next, x, f, w, t, relax, live, 0)
        return [update] if bits is None else [self.record(bits, w, t), update]

    def update_tangent(self, g, w_next, x, f, w, bits, relax):
        """That of the tangent."""
        return [self._pixels("update_tangent", len(w), g, w_next, x, f, w, bits, relax)]

    def update_adjoint(self, g, w_next, f, w, bits, relax, rho, count, step):
        """That of the reverse sweep."""
        return [self._pixels("update_adjoint", len(w), g, w_next, None, f, w, bits, relax, rho, count, step)]


def _record(passes, bits, w, t):
    """One thread a word of the tape."""
    batch, rows, words = bits.shape
    grid = (-(-words // 32), -(-rows // 8), batch)
    return bind("stencil.cu", "record", passes.dtype, grid, (32, 8), (bits, w, t, *passes.shape))
