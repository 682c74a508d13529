# SPDX-License-Identifier: MIT
"""Any network as a reconstruction of NumPy samples, that `kspike.attack` can attack."""

from __future__ import annotations

import numpy as np
import torch

from kspike import door, operators
from kspike.torch.layers import from_channels

__all__ = ["Reconstruction"]


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
