# SPDX-License-Identifier: MIT
"""The accuracy of the transforms: C = relative l2 error / (u sqrt(log2 N)), u the unit roundoff, against long double.

C <= 3 at every length, C <= 1 at powers of two, over as many vectors as make 256 numbers: of two numbers alone the
error is one of few roundings, not a mean of many. The witness is the DFT by its definition, summed in long double, up
to length 1024, and SciPy's transform in long double beyond, which the first is held against.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np

from kspike import MaskedFourier

TITLE = "Accuracy of the transforms"
WORST, WORST_POWER = 3.0, 1.0
LONG = [1031, 1280, 1536, 1920, 2039, 2047, 2048, 2049, 2187, 2310, 3000, 3125]
LONG += [4001, 4093, 4096, 4097, 5040, 8191, 8192]


def lengths(minutes):
    """Every length up to a limit, and larger ones: the hand-picked, and random ones up to 200 in all."""
    rng = np.random.default_rng(11)
    more = rng.integers(1025, 12289, 200 - len(LONG)).tolist()
    return (
        (range(1, 1025), LONG + more)
        if minutes >= 1
        else ([*range(1, 65), 97, 128, 243, 251, 360, 509, 1024], LONG[:4])
    )


def definition(x):
    """The centred orthonormal DFT of the rows of x (..., n) by its sum, in long double."""
    n = x.shape[-1]
    k = np.arange(n) - n // 2
    turns = np.arange(n).astype(np.longdouble) * (8 * np.arctan(np.longdouble(1)) / n)
    roots = np.cos(turns) - 1j * np.sin(turns)
    return x @ roots[np.outer(k, k) % n] / np.sqrt(np.longdouble(n))


def witness(x):
    """The centred orthonormal DFT of x over its last two axes, in long double, by SciPy."""
    import scipy.fft

    axes = (-2, -1)
    return np.fft.fftshift(scipy.fft.fft2(np.fft.ifftshift(x, axes), norm="ortho"), axes)


def constant(found, exact, dtype):
    """The C of a transform."""
    error = np.linalg.norm((found - exact).ravel().astype(np.clongdouble)) / np.linalg.norm(exact.ravel())
    return float(error / (np.finfo(dtype).eps / 2) / np.sqrt(max(1.0, np.log2(found[0].size))))


def transforms(x, dtype):
    """A x and A* x of a batch with every frequency sampled, by the C++ engine."""
    from kspike._backends import cpp

    plan = cpp.Plan(np.ones(x.shape[1:], bool), dtype, 1)
    forward, back = np.empty((len(x), x[0].size), dtype), np.empty_like(x)
    plan.forward(x, out=forward)
    plan.adjoint(x.reshape(len(x), -1), out=back)
    return forward.reshape(x.shape), back


def measure(minutes):
    """The C of every length along either axis and of shapes in two dimensions: rows (kind, shape, dtype, C)."""
    rng = np.random.default_rng(7)
    short, long = lengths(minutes)
    shapes = [(n, 1) if n % 2 else (1, n) for n in short] + [(n, 1) for n in (64, 100, 251)]
    shapes += [(1, n) if i % 2 else (n, 1) for i, n in enumerate(long)]
    planes = [(8, 15), (31, 64), (128, 96), (97, 128), (250, 368), (256, 256), (3, 1000)][: 7 if minutes >= 1 else 3]
    rows, doubt = [], 0.0
    for shape in shapes + planes:
        n = max(shape)
        parts = rng.standard_normal((-(-256 // n), *shape, 2)).astype(np.float32)
        x = (parts[..., 0] + 1j * parts[..., 1]).astype(np.clongdouble)
        exact = witness(x)
        if n <= 1024 and 1 in shape:
            summed = definition(x.reshape(len(x), n)).reshape(x.shape)
            doubt = max(doubt, float(np.linalg.norm((exact - summed).ravel()) / np.linalg.norm(summed.ravel())))
            exact = summed
        inverse = np.conj(witness(np.conj(x)))
        for dtype in ("complex64", "complex128"):
            found = transforms(np.ascontiguousarray(x.astype(dtype)), dtype)
            c = max(constant(f, e, dtype) for f, e in zip(found, (exact, inverse), strict=True))
            rows.append((shape, dtype, c))
    return {"rows": rows, "doubt": doubt}


def signals(minutes):
    """The C of A and A* of signals (n,), which NumPy transforms, by dtype and length."""
    rng, found = np.random.default_rng(8), {}
    short, long = lengths(minutes)
    for n in [*short, *long]:
        x = (rng.standard_normal((-(-256 // n), n, 2)).astype(np.float32) @ (1, 1j)).astype(np.clongdouble)
        exact = [witness(x[:, None])[:, 0], np.conj(witness(np.conj(x[:, None])))[:, 0]]
        for dtype in ("complex64", "complex128"):
            A = MaskedFourier(np.ones(n, bool), dtype=dtype)
            z = x.astype(dtype)
            cs = [constant(f, e, dtype) for f, e in zip((A(z), A.adjoint(z)), exact, strict=True)]
            found.setdefault(dtype, {})[(n,)] = max(cs)
    return found


def row(name, cs):
    """The row of the table for a C by shape, and whether all are as small as they have to be."""
    powers = {s: c for s, c in cs.items() if all(n & (n - 1) == 0 for n in s)}
    worst, power = max(cs, key=cs.get), max(powers, key=powers.get)
    measured = f"median C {np.median(list(cs.values())):.2f}, worst {cs[worst]:.2f} at {' x '.join(map(str, worst))}"
    allowed = f"C <= {WORST:g}, powers of two <= {WORST_POWER:g}"
    passed = cs[worst] <= WORST and powers[power] <= WORST_POWER
    return (f"{name}, {len(cs)} shapes", f"{measured}, powers of two {powers[power]:.2f}", allowed), passed


def run(minutes):
    """Measure at every level this processor has, each in a process of its own."""
    from kspike._backends import cpp

    table, passed = [], True
    for level in cpp.LEVELS[: cpp.LEVELS.index(cpp.BEST) + 1]:
        done = subprocess.run(
            [sys.executable, __file__, str(minutes)],
            env={**os.environ, "KSPIKE_ISA": level},
            check=True,
            capture_output=True,
            text=True,
        )
        found = json.loads(done.stdout)
        for dtype in ("complex64", "complex128"):
            cs = {tuple(shape): c for shape, d, c in found["rows"] if d == dtype}
            line, small = row(f"{level}, {dtype}", cs)
            passed &= small
            table.append(line)
        passed &= found["doubt"] < 1e-17
    for dtype, cs in signals(minutes).items():
        line, small = row(f"signals, {dtype}", cs)
        passed &= small
        table.append(line)
    table.append(("the two witnesses differ by", f"{found['doubt']:.1e}", "1e-17"))
    return passed, table


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]))))
