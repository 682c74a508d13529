# SPDX-License-Identifier: MIT
"""The parts of bench/gpu.py: each is a function of a `Setting` and returns what belongs in the record.

`correct` says whether its answers are right, in the parts that have any; speeds are judged by whoever reads the record.
"""

import shutil
import statistics
import subprocess
import sys

import numpy as np

LAM, RHO, RELAX = 5e-3, 0.25, 1.9
TOLERANCE = 2e-5  # of max |x|, after a few iterations in complex64: rounding is a tenth of it
CASES = ((256, 64), (1024, 1), (2048, 1), (4096, 1), (256, 1), (256, 16), (512, 1), (1024, 16), (320, 16))
SMALL = ((64, 1), (128, 1), (256, 1), (512, 1), (64, 64), (128, 8), (256, 4))
NOISES = {0.005: 3.2e-4, 0.01: 6.4e-4, 0.02: 2.0e-3, 0.04: 5.6e-3, 0.08: 1.1e-2, 0.1: 1.4e-2}  # of Table 1 -> lam


def timed(cupy, call, repeats=7):
    """Median and best of a call, in ms, by events on the current stream."""
    call()
    found = []
    for _ in range(repeats):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        call()
        end.record()
        end.synchronize()
        found.append(cupy.cuda.get_elapsed_time(start, end))
    return statistics.median(found), min(found)


def per_iteration(cupy, run, few=20, many=120):
    """ms of one iteration: the difference of two solves, so that what a solve costs once is not in it."""
    return (timed(cupy, lambda: run(many))[0] - timed(cupy, lambda: run(few))[0]) / (many - few)


def table(head, *rows):
    """Print numbers in columns."""
    for row in (head, *rows):
        print(" ".join(f"{v:>12.4g}" if isinstance(v, float) else f"{v!s:>12}" for v in row), flush=True)


# --- tests -----------------------------------------------------------------------------------------------------------


def tests(setting):
    """The GPU tests, and those of every engine on this one."""
    found = pytest(setting, "tests/test_gpu.py", "tests/test_kernels.py", "tests/test_plan.py", "tests/test_norms.py")
    print(found["pytest"])
    return found


def pytest(setting, *files, before=(), only="cupy or gpu"):
    """Run tests in a process of its own: its last line, and whether it is well."""
    import os
    import pathlib

    root = pathlib.Path(__file__).resolve().parents[1]
    options = ["--collect-only"] if setting.dry else []
    command = [*before, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *files, "-k", only]
    environment = {**os.environ, "PYTHONPATH": setting.path}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    well = done.returncode == 0 or (setting.dry and done.returncode == 5)  # 5: no test is there
    return {"pytest": (lines or ["nothing"])[-1], "correct": well, **({} if well else {"log": lines[-60:]})}


def sanitizer(setting):
    """compute-sanitizer on one small solve, where it is installed."""
    tool, found = shutil.which("compute-sanitizer"), {"correct": True}
    if tool is None:
        return {"absent": "no compute-sanitizer on the PATH"}
    for check in ("memcheck", "racecheck", "synccheck"):
        before = [tool, "--tool", check, "--error-exitcode", "9"]
        found[check] = pytest(setting, "tests/test_gpu.py", before=before, only="small_solve")
        found["correct"] &= found[check]["correct"]
    return found


# --- the iteration ---------------------------------------------------------------------------------------------------


def copy(setting):
    """Bytes a second of a large copy, counting those read and those written."""
    cupy = setting.cupy
    a = cupy.asarray(np.random.default_rng(0).random(1 << (10 if setting.dry else 28), np.float32))
    b = cupy.empty_like(a)
    ms, best = timed(cupy, lambda: cupy.copyto(b, a), 15)
    found = {"bytes per second": 2 * a.nbytes / ms * 1e3, "best": 2 * a.nbytes / best * 1e3}
    table(("copy TB/s", "best"), (found["bytes per second"] / 1e12, found["best"] / 1e12))
    return found


def bytes_per_pixel(mask, passes, fft):
    """What an iteration in complex64 has to move: stencils 48, the diagonal 17 and 8 for the data it reads.

    Fused: that is all, and of the data only the sectors of 32 bytes that hold a sample. Pixelwise: also, on our
    transforms two passes over rows of 16, with cuFFT four passes of 16 and a copy of 16.
    """
    if fft == "CuFFT":
        return 48 + 25 + 4 * 16 + 16
    sectors = np.fft.ifftshift(mask).reshape(mask.shape[0], -1, 4).any(-1).mean()
    return 48 + 17 + 8 * float(sectors) + (0 if passes == "Fused" else 2 * 16)


class Problem:
    """One size: a solver's plan on the device, data of an ellipse image, and the answer of the reference in double."""

    def __init__(self, cupy, n, batch, checked=20):
        import kspike
        from kspike._backends import select

        self.cupy, self.n, self.batch, self.checked = cupy, n, batch, checked
        self.mask, self.t = kspike.radial_mask((n, n), lines=max(8, 40 * n // 256)), LAM / RHO
        self.plan = select("cupy").Plan(self.mask, "complex64")
        image = kspike.ellipses((n, n), seed=0).astype(np.complex64)
        self.x = cupy.asarray(np.repeat(image[None], batch, 0))
        self.y = self.plan.forward(self.x, cupy.empty((batch, int(self.mask.sum())), np.complex64))
        self.w = cupy.zeros((batch, 2, n, n), np.complex64)
        self.b = self.plan.adjoint(self.y, cupy.empty_like(self.x))
        exact = kspike.reference.Plan(self.mask)
        self.expected = np.empty((1, n, n), complex)
        start = exact.state(np.zeros((1, 2, n, n), complex))
        y = cupy.asnumpy(self.y[:1]).astype(complex)
        exact.iterate(start, y, self.expected, self.t, RHO, RELAX, checked)

    def error(self, x):
        """Relative to the largest modulus, for one image or a batch of the same."""
        return float(np.abs(self.cupy.asnumpy(x) - self.expected).max() / np.abs(self.expected).max())

    def iterate(self, state, count, **options):
        """Our iteration."""
        self.plan.iterate(state, self.y, self.x, self.t, RHO, RELAX, count, **options)
        return self.x

    def textbook(self, iterations):
        """The over-relaxed ADMM in CuPy's own operations: three variables, two FFTs, nothing shifted."""
        import kspike

        cupy, t = self.cupy, self.t
        symbol = np.fft.ifftshift(kspike.reference.symbol(self.mask.shape))
        inverse = cupy.asarray((1 / (np.fft.ifftshift(self.mask) + RHO * symbol)).astype(np.float32))
        z = cupy.zeros(self.w.shape, np.complex64)
        u = cupy.zeros(self.w.shape, np.complex64)
        for _ in range(iterations):
            d = z - u
            right = self.b + RHO * (cupy.roll(d[:, 0], 1, -2) - d[:, 0] + cupy.roll(d[:, 1], 1, -1) - d[:, 1])
            x = cupy.fft.ifft2(inverse * cupy.fft.fft2(right))
            gradient = cupy.stack([cupy.roll(x, -1, -2) - x, cupy.roll(x, -1, -1) - x], -3)
            h = RELAX * gradient + (1 - RELAX) * z + u
            u = cupy.clip(h.real, -t, t) + 1j * cupy.clip(h.imag, -t, t)
            z = h - u
        return x


def cases(setting):
    """All times of the iteration, its tape and its derivatives, beside the textbook in CuPy."""
    copied = setting.record.get("copy", {}).get("bytes per second")
    found = [case(setting, n, batch, copied) for n, batch in (((64, 2), (12, 1)) if setting.dry else CASES)]
    return {"cases": found, "correct": all(c["correct"] for c in found)}


def case(setting, n, batch, copied):
    """One size."""
    cupy = setting.cupy
    p = Problem(cupy, n, batch, checked=20 if n <= 1024 else 3)
    plan, state = p.plan, p.plan.state(p.w)
    errors = {
        "iterate": p.error(p.iterate(plan.state(p.w), p.checked)),
        "textbook": p.error(p.textbook(p.checked)[:1]),
    }
    tape, gy, gw = plan.tape(batch), cupy.empty_like(p.y), cupy.empty_like(p.w)
    p.iterate(plan.state(p.w), 50, tape=tape)
    frozen, tangent = plan.freeze(state, p.t), plan.state(p.w)
    few, many = (1, 2) if setting.dry else (20, 120)
    ms = {
        "iteration": per_iteration(cupy, lambda k: p.iterate(state, k), few, many),
        "with tape": per_iteration(
            cupy, lambda k: p.iterate(state, k, tape=plan.tape(batch)), few, few + max(1, many // 3)
        ),
        "tangent": per_iteration(cupy, lambda k: plan.tangent(tangent, frozen, p.b, p.x, RHO, RELAX, k), few, many),
        "reverse": timed(cupy, lambda: plan.reverse(tape, p.b, gy, gw, RHO, RELAX))[0] / 50,
        "textbook": per_iteration(cupy, p.textbook, 1, 2 if setting.dry else 11),
    }
    passes = type(plan._passes).__name__, type(plan._fft).__name__
    moved = bytes_per_pixel(p.mask, *passes)
    rate = moved * n * n * batch / ms["iteration"] * 1e3
    found = {
        "n": n,
        "batch": batch,
        "passes": passes,
        "ms": ms,
        "errors": errors,
        "correct": all(error < TOLERANCE for error in errors.values()),
        "bytes per pixel": moved,
        "bytes per second": rate,
        "share of the copy rate": rate / copied if copied else None,
        "textbook over iteration": ms["textbook"] / ms["iteration"],
    }
    times = [1e3 * value for value in ms.values()]
    table(("n", "batch", *ms, "of copy"), (n, batch, *times, found["share of the copy rate"] or "?"))
    free(cupy)
    return found


def free(cupy):
    """Give unused memory back."""
    if hasattr(cupy, "get_default_memory_pool"):
        cupy.get_default_memory_pool().free_all_blocks()


def graphs(setting):
    """Small cases, microseconds an iteration: in a CUDA graph, launched one by one, and with the stopping rule."""
    cupy, found = setting.cupy, []
    for n, batch in ((64, 1),) if setting.dry else SMALL:
        p = Problem(cupy, n, batch)
        never, row = np.full(batch, -1.0), {"n": n, "batch": batch}
        few, many = (20, 40) if setting.dry else (100, 1100)
        limit = p.plan.SMALL
        for name, small, stop in (("graph", limit, None), ("one by one", 0, None), ("stopping rule", limit, never)):
            p.plan.SMALL, p.plan._sections = small, {}
            state = p.plan.state(p.w)
            row[f"us {name}"] = 1e3 * per_iteration(
                cupy, lambda k, p=p, state=state, stop=stop: p.iterate(state, k, stop=stop), few, many
            )
        p.plan.SMALL = limit
        row["error"] = p.error(p.iterate(p.plan.state(p.w), p.checked))
        found.append(row)
        table(tuple(row), tuple(row.values()))
    return {"cases": found, "correct": all(row["error"] < TOLERANCE for row in found)}


# --- torch -----------------------------------------------------------------------------------------------------------


def torch_loops(setting):
    """The paper's loop in torch and a textbook one beside our iteration and its derivative, forward and gradient."""
    try:
        import torch
    except ModuleNotFoundError:
        return {"absent": "no torch"}
    if not setting.dry and not torch.cuda.is_available():
        return {"absent": "this torch has no CUDA"}
    import gpu_torch

    cupy, found = setting.cupy, []
    for n, batch in ((64, 1),) if setting.dry else ((256, 1), (256, 16), (1024, 1)):
        p = Problem(cupy, n, batch)
        loop = gpu_torch.Loop(torch, "cpu" if setting.dry else "cuda", p.mask, cupy.asnumpy(p.y), LAM, RHO)
        error = p.error(loop.published(p.checked, relax=RELAX)[:1])
        count = 2 if setting.dry else 20
        tape, gy, gw = p.plan.tape(batch), cupy.empty_like(p.y), cupy.empty_like(p.w)
        state = p.plan.state(p.w)

        def gradient(p=p, state=state, gy=gy, gw=gw, count=count):
            recorded = p.plan.tape(p.batch)
            p.iterate(state, count, tape=recorded)
            p.plan.reverse(recorded, p.b, gy, gw, RHO, RELAX)

        p.iterate(p.plan.state(p.w), count, tape=tape)
        p.plan.reverse(tape, p.b, gy, gw, RHO, RELAX)
        expected, theirs = cupy.asnumpy(gy), loop.gradient(cupy.asnumpy(p.b), count, relax=RELAX)
        difference = float(np.linalg.norm(theirs - expected) / np.linalg.norm(expected))
        ms = {
            "published forward": timed(cupy, lambda k=count, run=loop: run.published(k), 3)[0],
            "published gradient": timed(cupy, lambda k=count, run=loop: run.gradient(None, k), 3)[0],
            "forward": timed(cupy, lambda p=p, state=state, k=count: p.iterate(state, k))[0],
            "gradient": timed(cupy, gradient)[0],
        }
        ratios = {name: ms[f"published {name}"] / ms[name] for name in ("forward", "gradient")}
        found.append(
            {"n": n, "batch": batch, "iterations": count, "ms": ms, "ratios": ratios, "error": error,
             "gradient difference": difference, "correct": error < TOLERANCE and difference < 0.03}
        )  # fmt: skip
        table(("n", "batch", *ms, "x", "x"), (n, batch, *ms.values(), *ratios.values()))
        free(cupy)
    return {"cases": found, "correct": all(row["correct"] for row in found)}


# --- attacks ---------------------------------------------------------------------------------------------------------


def large(setting):
    """A 4096 x 4096 attack: the default one at one location, its memory and its seconds."""
    n = 64 if setting.dry else 4096
    found = attacked(setting, kspike_image(n, 0), n, 40 * n // 256, 0.04, grid=(1, 1))
    if hasattr(setting.cupy, "get_default_memory_pool"):
        found["bytes"] = setting.cupy.get_default_memory_pool().total_bytes()
    table(("n", "seconds", "alpha"), (n, found["seconds"], found["alpha"]))
    free(setting.cupy)
    return found


def kspike_image(n, seed):
    """A test image."""
    import kspike

    return kspike.ellipses((n, n), seed=seed).astype(np.complex64)


def attacked(setting, image, n, lines, noise, grid, **options):
    """One attack from host to host: seconds and the measures of the best location, which the artifact itself checks."""
    import time

    import kspike

    tv = kspike.TVSolver(kspike.radial_mask((n, n), lines=max(8, lines)), NOISES[noise], backend="cupy")
    y = tv.A(setting.cupy.asarray(image))
    start = time.perf_counter()
    found = kspike.attack(tv, y, noise=noise, grid=grid, batch=grid[0] * grid[1], **options)
    seconds = time.perf_counter() - start  # its measures are numbers of the host: all is done
    artifact, budget = setting.cupy.asnumpy(found.artifact), setting.cupy.asnumpy(found.perturbation)
    well = abs(np.abs(artifact).max() / found.artifact_max - 1) < 1e-5
    well &= abs(np.linalg.norm(budget) / found.eta - 1) < 1e-3 and found.amplification > 0
    return {"seconds": seconds, "alpha": found.amplification, "units": found.units, "correct": bool(well)}


def table1(setting):
    """The TV half of Table 1: 3 masks x 6 noise levels x 50 images x 64 locations, the default attack, in seconds."""
    n, images, grid = (64, 1, (2, 1)) if setting.dry else (256, 50, (8, 8))
    lines, noises = ((40,), [0.04]) if setting.dry else ((25, 40, 80), list(NOISES))
    options = dict(steps=1, final=10) if setting.dry else {}
    attacked(setting, kspike_image(n, 0), n, lines[0], noises[0], grid, **options)  # compiles
    cells = []
    for count in lines:
        for noise in noises:
            rows = [
                attacked(setting, kspike_image(n, seed), n, count, noise, grid, **options) for seed in range(images)
            ]
            cell = {key: statistics.fmean(row[key] for row in rows) for key in ("alpha", "units")}
            cell |= {"lines": count, "noise": noise, "seconds": sum(row["seconds"] for row in rows)}
            cells.append({**cell, "correct": all(row["correct"] for row in rows)})
            table(("lines", "noise", "alpha", "seconds"), (count, noise, cell["alpha"], cell["seconds"]))
    total = sum(cell["seconds"] for cell in cells)
    print(f"{len(cells)} cells, {images} images, {grid[0] * grid[1]} locations: {total:.1f} s")
    return {"cells": cells, "images": images, "grid": grid, "total": total, "correct": all(c["correct"] for c in cells)}


PARTS = {
    "copy": copy,
    "cases": cases,
    "graphs": graphs,
    "torch": torch_loops,
    "large": large,
    "table1": table1,
    "tests": tests,
    "sanitizer": sanitizer,
}
