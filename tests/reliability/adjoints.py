# SPDX-License-Identifier: MIT
"""Adjointness and isometry over random plans: |<A x, y> - <x, A* y>| <= 10 u sqrt(log2 N) ||x|| ||y||, by Hypothesis.

Drawn: the engine, the dtype, the shape (parity, 1 x n, primes), the batch, the mask, how the array lies in memory. What
is not C-contiguous must be refused and leave the output alone.
"""

from __future__ import annotations

import math

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kspike import Gradient, MaskedFourier
from kspike._backends import available, select
from kspike.sparse import Wavelet

TITLE = "Adjointness and isometry"
ENGINES = (*(name for name in available() if name != "cupy"), "reference")
SIDES = st.one_of(st.integers(1, 12), st.integers(13, 70), st.sampled_from([1, 2, 31, 64, 97, 101, 127, 128]))
LAYOUTS = ("contiguous", "contiguous", "contiguous", "offset", "reversed", "every other", "transposed", "fortran")

CASES = st.fixed_dictionaries(
    {
        "engine": st.sampled_from(ENGINES),
        "dtype": st.sampled_from(["complex64", "complex128"]),
        "shape": st.tuples(SIDES, SIDES),
        "batch": st.sampled_from([(), (0,), (1,), (2,), (2, 2)]),
        "density": st.sampled_from([0.0, 0.2, 0.5, 1.0]),
        "layout": st.sampled_from(LAYOUTS),
        "seed": st.integers(0, 2**32 - 1),
    }
)


def lay(x, layout):
    """The same numbers as a view that lies otherwise in memory."""
    if layout == "offset":
        wide = np.empty((x.size + 3,), x.dtype)[3:].reshape(x.shape)
        wide[...] = x
        return wide
    if layout == "reversed":
        return np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    if layout == "every other":
        wide = np.empty((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)[..., ::2]
        wide[...] = x
        return wide
    if layout == "transposed":
        return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    return np.asfortranarray(x) if layout == "fortran" else x


def draw(rng, dtype, *shape):
    """Standard normal complex numbers."""
    return (rng.standard_normal((*shape, 2)) @ (1, 1j)).reshape(shape).astype(dtype)


def norm(a):
    """||a||_2, summed in long double, or the sum's own rounding would be what is measured."""
    return np.sqrt((np.abs(a).astype(np.longdouble) ** 2).sum())


def excess(A, adjoint, x, y, dtype, count):
    """|<A x, y> - <x, A* y>| over u sqrt(log2 N) ||x|| ||y||, the largest over the `count` images of the batch."""
    u, worst = np.finfo(dtype).eps / 2, 0.0
    rows = [a.astype(np.clongdouble).reshape(count, -1 if count else a.size) for a in (A(x), y, x, adjoint(y))]
    for ax, b, c, aty in zip(*rows, strict=True):
        size = norm(c) * norm(b)
        gap = abs(np.vdot(b, ax) - np.vdot(aty, c))
        worst = max(worst, gap / (u * math.sqrt(max(1.0, math.log2(c.size))) * size))
    return float(worst)


def refuses(function, x):
    """Whether an array that does not lie in C order is refused with the reason; of others nothing is asked."""
    if x.flags.c_contiguous:
        return True
    try:
        function(x)
    except ValueError as error:
        return "C-contiguous" in str(error)
    return False


def check(case):
    """One case: {law: how much of what is allowed, in units of u sqrt(log2 N)}."""
    rng = np.random.default_rng(case["seed"])
    shape, dtype, batch = case["shape"], case["dtype"], case["batch"]
    mask = rng.random(shape) < case["density"]
    if not mask.any():
        mask.flat[rng.integers(mask.size)] = True
    A = MaskedFourier(mask, dtype=dtype, backend=case["engine"])
    D = Gradient(shape, backend=case["engine"])
    x, y, d = draw(rng, dtype, *batch, *shape), draw(rng, dtype, *batch, A.samples), draw(rng, dtype, *batch, 2, *shape)
    laid = lay(x, case["layout"])
    assert np.array_equal(laid, x)
    assert refuses(A, laid) and refuses(D, laid), "a strided image was taken"
    if laid.flags.c_contiguous:
        x = laid
    count = math.prod(batch)
    found = {"A": excess(A, A.adjoint, x, y, dtype, count), "D": excess(D, D.adjoint, x, d, dtype, count)}
    if count:
        size, u = norm(y), np.finfo(dtype).eps / 2
        gap = abs(norm(A.adjoint(y)) - size)
        found["isometry"] = float(gap / (u * math.sqrt(max(1.0, math.log2(mask.size))) * size))
    even = tuple(n + n % 2 for n in shape)
    W, z = Wavelet(even, ("haar", "db2", "db4")[case["seed"] % 3]), draw(rng, dtype, *batch, *even)
    found["W"] = excess(W, W.adjoint, z, draw(rng, dtype, *W(z).shape), dtype, count)
    found["reverse"] = reverse(case["engine"], mask, dtype, rng)
    return found


def reverse(engine, mask, dtype, rng):
    """The reverse sweep of three iterations is the adjoint of their tangent in y: both linear, on the same tape.

    The tangent in y is the same iteration on data dy with every threshold frozen, which is what `iterate` does from
    w = 0 with t = 0, where each part is in the support: then x is linear in y.
    """
    rows, cols = mask.shape
    near = [np.abs(np.arange(n) - n // 2) <= max(1, n // 8) for n in mask.shape]
    mask = mask | np.outer(*near)  # what is not sampled is held by rho K alone, which is small near zero
    plan = select(engine).Plan(mask, dtype, 1)
    y, g = draw(rng, dtype, 1, int(mask.sum())), draw(rng, dtype, 1, rows, cols)
    state, tape, x = plan.state(np.zeros((1, 2, rows, cols), dtype)), plan.tape(1), np.empty_like(g)
    rho, relax = 0.3, 1.7
    plan.iterate(state, y, x, 0.0, rho, relax, 3, tape=tape)
    out, w = np.empty_like(y), np.empty((1, 2, rows, cols), dtype)
    plan.reverse(tape, g, out, w, rho, relax)
    g, x, out, y = (a.astype(np.clongdouble) for a in (g, x, out, y))
    gap = abs(np.vdot(g, x) - np.vdot(out, y))
    size = norm(g) * norm(x) + norm(out) * norm(y)
    return float(gap / (np.finfo(dtype).eps / 2 * math.sqrt(max(1.0, math.log2(mask.size))) * size))


ALLOWED = dict.fromkeys(("A", "D", "isometry", "W", "reverse"), 10)  # the sweep's three iterations are six transforms


def campaign(examples):
    """The worst of each law over so many cases, and how many cases there were."""
    worst, count = dict.fromkeys(ALLOWED, 0.0), dict.fromkeys(ALLOWED, 0)

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(CASES)
    def every(case):
        for law, value in check(case).items():
            worst[law], count[law] = max(worst[law], value), count[law] + 1
            assert value <= ALLOWED[law], (law, value, case)

    every()
    return worst, count


def run(minutes):
    """5000 cases of each law and more where there is time, of which a fifth has no image; 150 in the short version."""
    worst, count = campaign(6500 if minutes >= 1 else 150)
    table = [
        (f"{law}, {count[law]} cases", f"{worst[law]:.2f} u sqrt(log2 N) ||x|| ||y||", f"{allowed}")
        for law, allowed in ALLOWED.items()
    ]
    return all(worst[law] <= ALLOWED[law] for law in ALLOWED), table
