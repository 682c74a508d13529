# SPDX-License-Identifier: MIT
"""Arrays of more than 2^31 numbers, simulated: one piece of memory lies at many addresses, one behind the other.

The array is contiguous, 16 GiB to whoever looks at it, and takes 64 MiB. Its end is another piece, so that an index of
32 bits is seen: it would miss the end, or leave the array. Linux.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time

import numpy as np

from kspike import reference
from kspike._backends import cpp

TITLE = "Large arrays"
SIDE, IMAGES = 1024, 8  # of an image, and how many of them the piece holds: 64 MiB in complex64
FIXED = 0x10  # MAP_FIXED, for which Python has no name
T = 0.7


class Repeated:
    """The numbers of `piece` again and again, `count` times, then those of `end`: complex64, of shape (images, ...).

    `array` is all of it; `piece` and `end` are views of the memory itself.
    """

    def __init__(self, count):
        image = SIDE * SIDE * 8
        sizes = IMAGES * image, image
        self._c = ctypes.CDLL(None, use_errno=True)
        self._c.mmap.restype = ctypes.c_void_p
        self._c.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._files = [os.memfd_create("kspike") for _ in sizes]
        for file, size in zip(self._files, sizes, strict=True):
            os.ftruncate(file, size)
        self._size = count * sizes[0] + sizes[1]
        both = mmap.PROT_READ | mmap.PROT_WRITE
        self._at = self._map(None, self._size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
        for i in range(count):
            self._map(self._at + i * sizes[0], sizes[0], both, mmap.MAP_SHARED | FIXED, self._files[0])
        self._map(self._at + count * sizes[0], sizes[1], both, mmap.MAP_SHARED | FIXED, self._files[1])
        memory = (ctypes.c_uint8 * self._size).from_address(self._at)
        self.array = np.frombuffer(memory, np.complex64).reshape(-1, SIDE, SIDE)
        self.piece, self.end = self.array[:IMAGES], self.array[-1:]

    def _map(self, where, size, access, flags, file):
        found = self._c.mmap(where, size, access, flags, file, 0)
        if found in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap")
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._c.munmap(ctypes.c_void_p(self._at), ctypes.c_size_t(self._size))
        for file in self._files:
            os.close(file)


def filled(rng, out):
    """Standard normal complex numbers, in place."""
    out[...] = (rng.standard_normal((*out.shape, 2), np.float32) @ np.array([1, 1j], np.complex64)).reshape(out.shape)


def run(minutes):
    """clip, which sees an array as one line of numbers, and A and A*, which see a batch of images."""
    count = 256 if minutes >= 1 else 2
    rng, table, passed = np.random.default_rng(0), [], True
    mask = rng.random((SIDE, SIDE)) < 1e-4
    with Repeated(count) as given, Repeated(count) as out:
        filled(rng, given.piece)
        filled(rng, given.end)
        plan, y = cpp.Plan(mask, "complex64", 1), np.empty((len(given.array), int(mask.sum())), np.complex64)
        for name, call, errors in (
            ("clip", lambda: cpp.clip(given.array, T, out=out.array), lambda: clipped(given, out)),
            ("A", lambda: plan.forward(given.array, out=y), lambda: sampled(plan, given, y)),
            ("A*", lambda: plan.adjoint(y, out=out.array), lambda: filled_zero(plan, y, out)),
        ):
            start = time.perf_counter()
            call()
            wrong = errors()
            passed &= wrong == 0
            what = f"{name} of {given.array.size:,} numbers"
            table.append((what, f"{wrong} wrong, {time.perf_counter() - start:.0f} s", "0 wrong"))
    return passed, table


def clipped(given, out):
    """How many numbers of the two pieces are not clip of those given."""
    return sum(int((reference.clip(a, T) != b).sum()) for a, b in ((given.piece, out.piece), (given.end, out.end)))


def sampled(plan, given, y):
    """How many samples are not those of the images, each piece and the end alone."""
    expected = [plan.forward(a, out=np.empty((len(a), y.shape[1]), y.dtype)) for a in (given.piece, given.end)]
    return int((y[:-1].reshape(-1, *expected[0].shape) != expected[0]).sum() + (y[-1:] != expected[1]).sum())


def filled_zero(plan, y, out):
    """How many numbers of the two pieces are not A* of the samples of their images."""
    expected = [plan.adjoint(b, out=np.empty_like(a)) for a, b in ((out.piece, y[:IMAGES]), (out.end, y[-1:]))]
    return sum(int((a != b).sum()) for a, b in zip((out.piece, out.end), expected, strict=True))
