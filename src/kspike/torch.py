# SPDX-License-Identifier: MIT
"""PyTorch: A, D and recTV as custom operators and layers, and any network as a reconstruction that can be attacked.

The operators `torch.ops.kspike.*` run in kspike's engines, on the tensors' own memory: one call for a masked transform,
one for a whole TV solve, one for its gradient. They have fake kernels, derivatives and batching rules, so that
`torch.compile(fullgraph=True)`, autograd and `torch.func.vmap` see through them. Tensors are complex, the leading
dimensions are a batch, and a tensor that is not contiguous is copied, as PyTorch's own operators do.

>>> A = kspike.torch.MaskedFourier(mask)
>>> layer = kspike.torch.TVLayer(mask, lam=5.6e-3)
>>> found = kspike.attack(kspike.torch.Reconstruction(net, A=kspike.MaskedFourier(mask)), y, noise=0.04)
"""

from __future__ import annotations

import functools
import math
import warnings

import numpy as np
import torch
from torch import Tensor

from kspike import door, kernels, operators
from kspike._backends import select
from kspike.derivative import Jacobian
from kspike.norms import NORMS
from kspike.solver import DERIVATIVES, MOST, TOL, TVSolver

__all__ = ["Gradient", "MaskedFourier", "Reconstruction", "TVLayer", "from_channels", "to_channels"]

PLANS = 32  # kept for use again, by mask, precision, device and, for recTV, lam
COMPLEX = (torch.complex64, torch.complex128)


def to_channels(x):
    """Real and imaginary part as two channels: complex (..., *inner) -> real (..., 2, *inner), inner rows, cols."""
    return torch.stack([x.real, x.imag], -3)


def from_channels(x):
    """The complex image of two channels: real (..., 2, rows, cols) -> complex (..., rows, cols)."""
    return torch.complex(*x.unbind(-3))


class MaskedFourier(torch.nn.Module):
    """A x = P F x, the samples of the centred orthonormal DFT: complex (..., rows, cols) -> (..., m).

    The precision is that of the tensor. Has no parameters and nothing in its state dict.

    Parameters
    ----------
    mask : bool array or tensor (rows, cols), zero frequency at [rows // 2, cols // 2]
    channels : take and give real tensors with real and imaginary part as two channels, (..., 2, rows, cols) <->
        (..., 2, m); without it real tensors are refused, for a pair of channels looks like a batch of two images
    threads : how many threads the engine may use
    """

    def __init__(self, mask, *, channels=False, threads=1):
        super().__init__()
        self.mask = _mask(mask)
        self.shape, self.samples = self.mask.shape, int(np.count_nonzero(self.mask))
        self.channels, self.threads = channels, door.whole("threads", threads, 1)
        self._bits = torch.from_numpy(np.packbits(self.mask))

    def forward(self, x):
        """A x: (..., rows, cols) -> (..., m)."""
        x = _complex("x", x, self.shape, self.channels)
        return _parts(masked_fourier(x, self._bits, self.samples, self.threads), self.channels, -2)

    def adjoint(self, y):
        """A* y, zero-filled: (..., m) -> (..., rows, cols)."""
        y = _complex("y", y, (self.samples,), self.channels)
        return _parts(masked_fourier_adjoint(y, self._bits, *self.shape, self.threads), self.channels, -3)

    def extra_repr(self):
        """What `print(module)` shows."""
        return f"{self.shape}, samples={self.samples}"


class Gradient(torch.nn.Module):
    """D x, the periodic forward differences along rows and columns: complex (..., rows, cols) -> (..., 2, rows, cols).

    With `channels`, real (..., 2, rows, cols) -> (..., 2, 2, rows, cols), the first of the two the parts.
    """

    def __init__(self, shape, *, channels=False):
        super().__init__()
        self.shape, self.channels = door.shape2(shape), channels

    def forward(self, x):
        """D x: (..., rows, cols) -> (..., 2, rows, cols)."""
        return _parts(gradient(_complex("x", x, self.shape, self.channels)), self.channels, -4)

    def adjoint(self, d):
        """D* d: (..., 2, rows, cols) -> (..., rows, cols)."""
        return _parts(gradient_adjoint(_complex("d", d, (2, *self.shape), self.channels)), self.channels, -3)

    def extra_repr(self):
        """What `print(module)` shows."""
        return f"{self.shape}"


class TVLayer(torch.nn.Module):
    """recTV(y) = argmin_x 1/2 ||A x - y||^2 + lam ||D x||_1 as a layer: complex (..., m) -> (..., rows, cols).

    Parameters
    ----------
    mask : as for `MaskedFourier`
    lam : weight of the total variation
    learn : make log lam a parameter, `log_lam`; it needs derivative="implicit"
    derivative : "implicit", that at the solution, by conjugate gradients, without a tape; or "unrolled", the exact one
        of `iterations` iterations from zero, run again when it is asked for
    iterations : how many are run, for derivative="unrolled"
    max_iterations, tol : of the solve, as for `TVSolver.solve`; a warning says if it did not converge
    gradient_tol : of the conjugate gradients, relative
    norm, threads : as for `TVSolver`
    rho : the ADMM penalty; the default suits images of scale about 1
    channels : as for `MaskedFourier`
    """

    def __init__(
        self,
        mask,
        lam,
        *,
        learn=False,
        derivative="implicit",
        iterations=None,
        max_iterations=MOST,
        tol=TOL,
        gradient_tol=1e-4,
        norm="separable",
        rho=None,
        threads=1,
        channels=False,
    ):
        super().__init__()
        if derivative not in DERIVATIVES:
            raise ValueError(f"derivative: expected one of {', '.join(DERIVATIVES)}, got {derivative!r}")
        if norm not in NORMS:
            raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
        if (derivative == "unrolled") != (iterations is not None):
            raise TypeError(
                f"iterations: expected a number of them for derivative='unrolled' and for no other, got {iterations!r}"
            )
        if learn and derivative != "implicit":
            raise ValueError("learn: lam has a derivative for derivative='implicit' only")
        lam = door.number("lam", lam, 0, closed=not learn)
        self.mask, self.learn, self.channels = _mask(mask), learn, channels
        self.shape, self.samples = self.mask.shape, int(np.count_nonzero(self.mask))
        self._bits = torch.from_numpy(np.packbits(self.mask))
        if learn:
            self.log_lam = torch.nn.Parameter(torch.tensor(math.log(lam), dtype=torch.float64))
        else:
            self._lam = torch.tensor(lam, dtype=torch.float64)
        self._options = (
            0 if iterations is None else door.whole("iterations", iterations, 1),
            door.whole("max_iterations", max_iterations, 1),
            door.number("tol", tol, 0),
            door.number("gradient_tol", gradient_tol, 0),
            norm,
            0.0 if rho is None else door.number("rho", rho, 0),
            door.whole("threads", threads, 1),
        )

    @property
    def lam(self):
        """The weight of the total variation, a tensor of no dimensions."""
        return self.log_lam.exp() if self.learn else self._lam

    def forward(self, y):
        """recTV(y): (..., m) -> (..., rows, cols)."""
        y = _complex("y", y, (self.samples,), self.channels)
        x, _ = total_variation(y, self.lam, self._bits, *self.shape, *self._options)
        return _parts(x, self.channels, -3)

    def extra_repr(self):
        """What `print(module)` shows."""
        return f"{self.shape}, samples={self.samples}, lam={float(self.lam.detach()):g}"


class Reconstruction:
    """A network as a reconstruction of NumPy samples: `rec(y)`, and `vjp(y) -> (x, pullback)` for `kspike.attack`.

    Parameters
    ----------
    net : a module on complex samples (batch, m) that gives images (batch, rows, cols), complex or real. It is put into
        evaluation mode, so that a batch is no more than its images one by one.
    A : the measurement operator; default `kspike.MaskedFourier(net.mask)`
    channels : the net speaks in real channels: (batch, 2, m) -> (batch, 2 or 1, rows, cols)
    batch : how many images at once; sets the memory and not the result

    Attributes: `net`, `A`, `shape`, `samples`, `dtype`, `device`, that of its parameters, and `batch`.
    """

    def __init__(self, net, A=None, *, channels=False, batch=8):
        if not isinstance(net, torch.nn.Module):
            raise TypeError(f"net: expected a torch.nn.Module, got {type(net).__name__}")
        if A is None:
            if not hasattr(net, "mask"):
                raise TypeError("A: net has no attribute mask, give the operator: A=kspike.MaskedFourier(mask)")
            A = operators.MaskedFourier(np.asarray(net.mask))
        self.net, self.A, self.channels = net.eval(), A, channels
        self.batch = door.whole("batch", batch, 1)
        self.shape, self.samples, self.dtype = A.shape, A.samples, A.dtype
        self.device = next((t.device for t in (*net.parameters(), *net.buffers())), torch.device("cpu"))

    def __call__(self, y):
        """rec(y): (..., m) -> (..., rows, cols)."""
        with torch.no_grad():
            return self._joined([self._images(part).numpy(force=True) for part in self._parts("y", y)], y, self.shape)

    def vjp(self, y):
        """The pair of x = rec(y) and its pullback dL/dx = dL/dRe x + i dL/dIm x -> dL/dy: (..., m); call it at will."""
        leaves = [part.requires_grad_() for part in self._parts("y", y)]
        with torch.enable_grad():
            images = [self._images(leaf) for leaf in leaves]

        def pullback(g):
            door.array("g", g, self.shape, (self.dtype,))
            if g.shape[:-2] != y.shape[:-1]:
                raise ValueError(f"g: expected shape {(*y.shape[:-1], *self.shape)}, got {g.shape}")
            found = []
            for leaf, x, part in zip(leaves, images, self._tensors(door.batched(g, 2)), strict=True):
                (dy,) = torch.autograd.grad(x, leaf, part, retain_graph=True)
                found.append(dy.numpy(force=True))
            return self._joined(found, y, (self.samples,))

        return self._joined([x.numpy(force=True) for x in images], y, self.shape), pullback

    def warm(self, y):
        """What `kspike.attack` asks for to work in batches; a network keeps no state."""
        return _Still(self, self(y))

    def __repr__(self):
        return f"Reconstruction({type(self.net).__name__}, {self.shape}, samples={self.samples}, device={self.device})"

    def _parts(self, name, y):
        door.array(name, y, (self.samples,), (self.dtype,))
        return self._tensors(door.batched(y, 1))

    def _tensors(self, a):
        """The array as tensors of at most `batch` rows."""
        return [torch.tensor(a[i : i + self.batch], device=self.device) for i in range(0, len(a), self.batch)]

    def _images(self, y):
        """The net's images of a batch, complex."""
        x = self.net(torch.stack([y.real, y.imag], -2) if self.channels else y)
        if self.channels:
            x = from_channels(x) if x.shape[1] == 2 else x.squeeze(1)
        x = x if x.is_complex() else torch.complex(x, torch.zeros_like(x))
        if x.shape != (len(y), *self.shape):
            raise ValueError(f"net: expected images {(len(y), *self.shape)}, got {tuple(x.shape)}")
        return x.to(y.dtype)

    def _joined(self, parts, y, inner):
        """The parts of a batch with the leading dimensions of y."""
        joined = np.concatenate(parts) if parts else np.empty((0, *inner), self.dtype)
        return np.ascontiguousarray(joined, self.dtype).reshape(*y.shape[:-1], *inner)


class _Still:
    """A reconstruction without a state, seen as one with a warm state."""

    pairs = None

    def __init__(self, rec, x):
        self._rec, self.x = rec, x

    def repeat(self, count):
        return self

    def vjp(self, y):
        return self._rec.vjp(y)

    def __call__(self, y, max_iterations):
        return self._rec(y)


# The custom operators. `bits` is the mask in packed bits, on the CPU: little enough to be compared in every call, so
# that an operator needs nothing but its arguments; the plans are kept by value.


@torch.library.custom_op("kspike::masked_fourier", mutates_args=())
def masked_fourier(x: Tensor, bits: Tensor, samples: int, threads: int) -> Tensor:
    """A x: (..., rows, cols) -> (..., m)."""
    rows, cols = x.shape[-2:]
    return _tensor(_fourier(x, bits, rows, cols, threads)(_array(x)))


@torch.library.custom_op("kspike::masked_fourier_adjoint", mutates_args=())
def masked_fourier_adjoint(y: Tensor, bits: Tensor, rows: int, cols: int, threads: int) -> Tensor:
    """A* y: (..., m) -> (..., rows, cols)."""
    return _tensor(_fourier(y, bits, rows, cols, threads).adjoint(_array(y)))


@torch.library.custom_op("kspike::gradient", mutates_args=())
def gradient(x: Tensor) -> Tensor:
    """D x: (..., rows, cols) -> (..., 2, rows, cols)."""
    return _tensor(kernels.grad(_array(x)))


@torch.library.custom_op("kspike::gradient_adjoint", mutates_args=())
def gradient_adjoint(d: Tensor) -> Tensor:
    """D* d: (..., 2, rows, cols) -> (..., rows, cols)."""
    return _tensor(kernels.grad_adjoint(_array(d)))


@torch.library.custom_op("kspike::total_variation", mutates_args=())
def total_variation(
    y: Tensor,
    lam: Tensor,
    bits: Tensor,
    rows: int,
    cols: int,
    iterations: int,
    max_iterations: int,
    tol: float,
    gradient_tol: float,
    norm: str,
    rho: float,
    threads: int,
) -> tuple[Tensor, Tensor]:
    """recTV(y) and the field w of its last state, (..., 2, rows, cols); of unrolled iterations w is empty."""
    solver = _solver(y, lam, bits, rows, cols, norm, rho, threads)
    if iterations:
        return _tensor(solver.vjp(_array(y), iterations=iterations)[0]), y.new_empty(0)
    info = solver.solve(_array(y), max_iterations, tol)
    if not np.all(info.converged):
        warnings.warn(
            f"recTV did not converge to tol = {tol:g} in {max_iterations} iterations: raise max_iterations, give rho "
            "for the scale of the images, or use complex128",
            UserWarning,
            stacklevel=2,
        )
    return _tensor(info.x), _tensor(info.state.field().reshape(*y.shape[:-1], 2, rows, cols))


@torch.library.custom_op("kspike::total_variation_gradient", mutates_args=())
def total_variation_gradient(
    g: Tensor,
    y: Tensor,
    w: Tensor,
    lam: Tensor,
    bits: Tensor,
    iterations: int,
    gradient_tol: float,
    norm: str,
    rho: float,
    threads: int,
    by_lam: bool,
) -> tuple[Tensor, Tensor]:
    """dL/dy (..., m) and, if by_lam, dL/dlam, of dL/dx = g (..., rows, cols)."""
    rows, cols = g.shape[-2:]
    solver = _solver(y, lam, bits, rows, cols, norm, rho, threads)
    if iterations:
        _, pullback = solver.vjp(_array(y), iterations=iterations)
        return _tensor(pullback(_array(g))), torch.zeros_like(lam)
    field = _array(w)
    jacobian = Jacobian(solver, door.batched(field, 3), y.shape[:-1], tol=gradient_tol)
    dy, slope = jacobian(_array(g)), torch.zeros_like(lam)
    if by_lam:
        slope += float((jacobian.lam().conj() * _array(g)).real.sum())
    return _tensor(dy), slope


@masked_fourier.register_fake
def _(x, bits, samples, threads):
    return x.new_empty(*x.shape[:-2], samples)


@masked_fourier_adjoint.register_fake
def _(y, bits, rows, cols, threads):
    return y.new_empty(*y.shape[:-1], rows, cols)


@gradient.register_fake
def _(x):
    return x.new_empty(*x.shape[:-2], 2, *x.shape[-2:])


@gradient_adjoint.register_fake
def _(d):
    return d.new_empty(*d.shape[:-3], *d.shape[-2:])


@total_variation.register_fake
def _(y, lam, bits, rows, cols, iterations, *options):
    lead = y.shape[:-1]
    return y.new_empty(*lead, rows, cols), y.new_empty(0) if iterations else y.new_empty(*lead, 2, rows, cols)


@total_variation_gradient.register_fake
def _(g, y, w, lam, *options):
    return y.new_empty(y.shape), torch.empty_like(lam)


def _keep_fourier(ctx, inputs, output):
    x, bits, _, threads = inputs
    ctx.save_for_backward(bits)
    ctx.shape, ctx.threads = x.shape[-2:], threads


def _keep_fourier_adjoint(ctx, inputs, output):
    y, bits, _, _, threads = inputs
    ctx.save_for_backward(bits)
    ctx.samples, ctx.threads = y.shape[-1], threads


def _keep_total_variation(ctx, inputs, output):
    y, lam, bits, _, _, iterations, _, _, gradient_tol, *rest = inputs
    ctx.save_for_backward(y, output[1], lam, bits)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.options = iterations, gradient_tol, *rest


def _back_total_variation(ctx, g, _):
    if g is None:
        return (None,) * 12
    dy, slope = total_variation_gradient(g, *ctx.saved_tensors, *ctx.options, ctx.needs_input_grad[1])
    return dy, slope if ctx.needs_input_grad[1] else None, *(None,) * 10


masked_fourier.register_autograd(
    lambda ctx, g: (masked_fourier_adjoint(g, *ctx.saved_tensors, *ctx.shape, ctx.threads), None, None, None),
    setup_context=_keep_fourier,
)
masked_fourier_adjoint.register_autograd(
    lambda ctx, g: (masked_fourier(g, *ctx.saved_tensors, ctx.samples, ctx.threads), None, None, None, None),
    setup_context=_keep_fourier_adjoint,
)
gradient.register_autograd(lambda ctx, g: gradient_adjoint(g))
gradient_adjoint.register_autograd(lambda ctx, g: gradient(g))
total_variation.register_autograd(_back_total_variation, setup_context=_keep_total_variation)


def _batch(operator):
    """Vmap puts its dimension in front of the first argument; the others are the same for all."""

    def rule(info, in_dims, first, *rest):
        _only_images(operator, in_dims[1:])
        return operator(_in_front(info, first, in_dims[0]), *rest), 0

    return rule


def _only_images(operator, in_dims):
    if any(dim is not None for dim in in_dims):
        raise NotImplementedError(f"{operator._qualname}: expected vmap over images, not over the mask or lam")


def _batch_total_variation(info, in_dims, y, *rest):
    _only_images(total_variation, in_dims[1:])
    x, w = total_variation(y.movedim(in_dims[0], 0), *rest)
    return (x, w), (0, 0 if w.numel() else None)


def _batch_total_variation_gradient(info, in_dims, g, y, w, *rest):
    _only_images(total_variation_gradient, in_dims[3:])
    front = [_in_front(info, t, dim) if t.numel() else t for t, dim in zip((g, y, w), in_dims, strict=False)]
    return total_variation_gradient(*front, *rest), (0, None)


def _in_front(info, t, dim):
    """The tensor with the dimension of vmap as its first."""
    return t.movedim(dim, 0) if dim is not None else t.expand(info.batch_size, *t.shape)


for _operator in (masked_fourier, masked_fourier_adjoint, gradient, gradient_adjoint):
    _operator.register_vmap(_batch(_operator))
total_variation.register_vmap(_batch_total_variation)
total_variation_gradient.register_vmap(_batch_total_variation_gradient)


def _fourier(t, bits, rows, cols, threads):
    return _plan(bits.numpy().tobytes(), rows, cols, _dtype(t), t.device.type, threads)


def _solver(y, lam, bits, rows, cols, norm, rho, threads):
    where = bits.numpy().tobytes(), rows, cols, _dtype(y), y.device.type, threads
    return _tv_plan(*where, float(lam), norm, rho or None)


@functools.lru_cache(PLANS)
def _plan(bits, rows, cols, dtype, device, threads):
    backend = "cupy" if device == "cuda" else None
    return operators.MaskedFourier(_unpacked(bits, rows, cols), dtype=dtype, backend=backend, threads=threads)


@functools.lru_cache(PLANS)
def _tv_plan(bits, rows, cols, dtype, device, threads, lam, norm, rho):
    options = dict(dtype=dtype, backend="cupy" if device == "cuda" else None, threads=threads)
    return TVSolver(_unpacked(bits, rows, cols), lam, rho=rho, norm=norm, **options)


def _unpacked(bits, rows, cols):
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=rows * cols).astype(bool).reshape(rows, cols)


def _dtype(t):
    return "complex64" if t.dtype == torch.complex64 else "complex128"


def _array(t):
    """The tensor's memory as a NumPy or, on a GPU, CuPy array; a copy only where it is not contiguous."""
    t = t.detach().resolve_conj().resolve_neg().contiguous()
    return t.numpy() if t.device.type == "cpu" else select("cupy").cupy.from_dlpack(t)


def _tensor(a):
    """The array's memory as a tensor."""
    return torch.from_numpy(a) if isinstance(a, np.ndarray) else torch.from_dlpack(a)


def _mask(mask):
    """The mask as a read-only NumPy array of its own."""
    mask = mask.numpy(force=True) if isinstance(mask, Tensor) else mask
    door.mask(mask)
    mask = mask.copy()
    mask.flags.writeable = False
    return mask


def _complex(name, t, inner, channels):
    """Check a tensor (..., *inner) and give it as a complex one; with channels it is real, (..., 2, *inner)."""
    wanted, types = ((2, *inner), (torch.float32, torch.float64)) if channels else (tuple(inner), COMPLEX)
    if t.dtype not in types:
        hint = "" if channels else "; real and imaginary part as two channels need channels=True"
        names = " or ".join(str(d).removeprefix("torch.") for d in types)
        raise TypeError(f"{name}: expected {names}, got {str(t.dtype).removeprefix('torch.')}{hint}")
    if tuple(t.shape[t.ndim - len(wanted) :]) != wanted or t.ndim < len(wanted):
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, wanted))}), got {tuple(t.shape)}")
    return torch.complex(*t.unbind(-len(wanted))) if channels else t


def _parts(t, channels, dim):
    """The tensor, or its real and imaginary part as channels."""
    return torch.stack([t.real, t.imag], dim) if channels else t
