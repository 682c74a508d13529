# SPDX-License-Identifier: MIT
"""Engines agree: every engine, and the CUDA sources on the emulator, on random plans.

The witness is the reference in long double: in double it is no better than an engine where rho K is small, for it adds
A*y in image space, where the engines put the samples into the spectrum. The field after some iterations must agree as
far as rounding allows: eps times the iterations, relative to the largest modulus, times a constant. A part of w near
the threshold may fall on either side in the two: that moves w by no more than its distance from the threshold, so no
case is set aside.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from kspike import reference
from kspike._backends import available, cpp

TITLE = "Engines agree"
HERE = pathlib.Path(__file__).parent
ALLOWED = 64  # eps per iteration: two transforms of 32 eps each, as the tests' table of tolerances has it
NORMS = ("separable", "modulus", "isotropic")


def plan_of(rng, sides):
    """mask, y, w, g, t, rho, relax, iterations of a random plan."""
    shape = tuple(int(rng.choice(sides)) for _ in range(2))
    mask = rng.random(shape) < rng.uniform(0.1, 1)
    mask[shape[0] // 2, shape[1] // 2] = True  # the mean is then determined: without it only rho K holds w
    batch = int(rng.integers(1, 4))

    def draw(*size):
        return (rng.standard_normal((*size, 2)) @ (1, 1j)).reshape(size).astype(np.complex64).astype(complex)

    y, w, g = draw(batch, int(mask.sum())), draw(batch, 2, *shape), draw(batch, *shape)
    t = float(np.float32(rng.uniform(0.05, 1)))  # the same number in both precisions
    return mask, y, w, g, t, 10 ** rng.uniform(-2, 0.5), rng.uniform(0.8, 1.95), int(rng.integers(1, 13))


def outputs(module, problem, dtype, norm):
    """What one engine makes of a problem: iteration, tangent on the support of the w that is given, transforms."""
    mask, y, w, g, t, rho, relax, iterations = problem
    xp = getattr(module, "cupy", np)  # the emulated CUDA engine has arrays of its own
    y, w, g = (xp.asarray(a.astype(dtype)) for a in (y, w, g))
    plan = module.Plan(mask, np.dtype(dtype), 1, norm)
    state, x, dx, image = plan.state(w), *(xp.empty(g.shape, dtype) for _ in range(3))
    plan.tangent(plan.state(w), plan.freeze(state, t), g, dx, rho, relax, iterations)
    plan.iterate(state, y, x, t, rho, relax, iterations)
    samples = plan.forward(g, out=xp.empty(y.shape, dtype))
    found = {"x": x, "w": state.field(), "dx": dx, "A g": samples, "A* y": plan.adjoint(y, out=image)}
    return {name: a if xp is np else xp.asnumpy(a) for name, a in found.items()}


def difference(found, expected, dtype, iterations):
    """The largest error of any output, in eps of the dtype per iteration and of the largest modulus."""
    eps = np.finfo(dtype).eps
    worst = 0.0
    for name, value in expected.items():
        scale = np.abs(value).max() * eps * (iterations if name in ("x", "w", "dx") else 1)
        worst = max(worst, float(np.abs(found[name] - value).max() / scale) if scale else 0.0)
    return worst


def compare(module, norms, seconds, sides, seed=0):
    """The worst difference over random plans for so long, at least one for each norm and dtype; the number of plans."""
    rng, worst, count, end = np.random.default_rng(seed), 0.0, 0, time.perf_counter() + seconds
    while count < 2 * len(norms) or time.perf_counter() < end:
        norm, dtype = norms[count % len(norms)], ("complex64", "complex128")[count // len(norms) % 2]
        problem = plan_of(rng, sides)
        expected = outputs(reference, problem, "clongdouble", norm)
        worst = max(worst, difference(outputs(module, problem, dtype, norm), expected, dtype, problem[-1]))
        count += 1
    return worst, count


def bits(seconds):
    """A digest of the single kernels on random fields, to be the same at every level of the instruction set."""
    import hashlib

    rng, digest = np.random.default_rng(5), hashlib.sha256()
    for _ in range(40 if seconds >= 1 else 8):
        rows, cols = (int(rng.integers(1, 60)) for _ in range(2))
        for dtype in ("complex64", "complex128"):
            x = (rng.standard_normal((2, rows, cols, 2)) @ (1, 1j)).astype(dtype)
            w = (rng.standard_normal((2, 2, rows, cols, 2)) @ (1, 1j)).astype(dtype)
            s = cpp.support(w, 0.4, out=np.empty((2, rows, cols), np.uint8))
            for out in (
                cpp.grad(x, out=np.empty_like(w)),
                cpp.grad_adjoint(w, out=np.empty_like(x)),
                cpp.clip(w, 0.4, out=np.empty_like(w)),
                cpp.shrink(w, 0.4, out=np.empty_like(w)),
                s,
                cpp.reflect(w, 0.4, out=np.empty_like(x)),
                cpp.reflect_tangent(w, s, out=np.empty_like(x)),
                cpp.shrink_update(w, x, 0.4, 1.9, out=np.empty_like(w)),
                cpp.shrink_update_tangent(w, x, s, 1.9, out=np.empty_like(w)),
                cpp.shrink_update_adjoint(w, x, s, 1.9, 0.3, out=np.empty_like(w)),
            ):
                digest.update(out.tobytes())
    return digest.hexdigest()


def elsewhere(level, code):
    """What Python code prints in a process with the level forced."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "KSPIKE_ISA": level, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def run(minutes):
    """Compare every engine, every level and the emulator."""
    share, table, passed = max(0.0, 60 * minutes / 6), [], True
    rows = []
    for name in available():
        if name == "cupy":
            continue
        for level in cpp.LEVELS[: 1 + cpp.LEVELS.index(cpp.BEST)] if name == "cpp" else ("",):
            code = (
                "import agreement, kspike._backends as b\n"
                f"print(*agreement.compare(b.select({name!r}), agreement.NORMS, {share}, range(1, 80)))"
            )
            worst, count = elsewhere(level, code).split()
            rows.append((f"{name} {level}".strip(), float(worst), int(count)))
    sys.path.insert(0, str(HERE.parent / "cuda"))
    import emulator

    with tempfile.TemporaryDirectory() as folder:
        engine = emulator.engine(folder)
        if minutes >= 1:  # each power of two is compiled anew
            others = [n for n in range(1, 40) if n & (n - 1)]
            rows.append(("CUDA sources, emulated", *compare(engine, NORMS, share / 2, others)))
        sides = (64, 128, 7, 33) if minutes >= 1 else (64, 7, 10)
        rows.append(("CUDA sources, emulated, powers of two too", *compare(engine, NORMS[:1], share / 2, sides)))
    for name, worst, count in rows:
        passed &= worst <= ALLOWED
        table.append((f"{name}, {count} plans", f"{worst:.2f} eps per iteration", f"{ALLOWED}"))
    levels = cpp.LEVELS[: 1 + cpp.LEVELS.index(cpp.BEST)]
    digests = {elsewhere(level, f"import agreement; print(agreement.bits({minutes}))") for level in levels}
    passed &= len(digests) == 1
    table.append((f"single kernels, {', '.join(levels)}", f"{len(digests)} digest", "1"))
    return passed, table
