# SPDX-License-Identifier: MIT
"""The custom operators `torch.ops.kspike.*`: one call each, with a fake kernel, a derivative and a batching rule.

`bits` is the mask in packed bits, on the CPU: little enough to be compared in every call, so that an operator needs
nothing but its arguments; the plans are kept by value.
"""

from __future__ import annotations

import functools
import warnings

import numpy as np
import torch
from torch import Tensor

from kspike import door, kernels
from kspike._backends import select
from kspike.derivative import Jacobian
from kspike.operators import MaskedFourier
from kspike.solver import TVSolver

__all__ = [
    "gradient",
    "gradient_adjoint",
    "masked_fourier",
    "masked_fourier_adjoint",
    "total_variation",
    "total_variation_gradient",
]

PLANS = 32  # kept for use again, by mask, precision, device and, for recTV, lam


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
    return MaskedFourier(_unpacked(bits, rows, cols), dtype=dtype, backend=backend, threads=threads)


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
