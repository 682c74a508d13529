# SPDX-License-Identifier: MIT
"""All that needs a GPU, in one command: build, test, check, time, write one record.

    python bench/gpu.py [--out FILE] [--quick] [--no-tests]

Installs the working tree into a temporary folder if kspike is not installed, runs the GPU tests and, where it is
present, compute-sanitizer, checks the answers against the reference in double, and times the iteration, its tape, its
derivatives and the textbook iteration in CuPy, in the same run. The bytes that an iteration has to move are also given
as a share of what a copy moves on this device. Exits with 2 where there is no GPU, with 1 if something is wrong.
"""

import argparse
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
CASES = ((256, 64), (1024, 1), (2048, 1), (4096, 1), (256, 1), (256, 16), (512, 1), (1024, 16), (320, 16))
QUICK = ((256, 4), (320, 1))
LAM, RHO, RELAX = 5e-3, 0.25, 1.9
TOLERANCE = 2e-5  # of max |x|, after a few iterations in complex64: rounding is a tenth of it


def device():
    """CuPy, if there is a device, or an exit that says what is missing."""
    if importlib.util.find_spec("cupy") is None:
        leave("no CuPy: pip install 'kspike[gpu]'")
    import cupy

    if not cupy.cuda.is_available():
        leave(f"CuPy {cupy.__version__} is here, but no CUDA device and driver")
    return cupy


def leave(why):
    """Say what is missing, and stop."""
    sys.stderr.write(f"bench/gpu.py times a GPU and there is none: {why}\n")
    sys.exit(2)


def build():
    """Install the working tree, without the C++ engine, if the package is not there with its sources."""
    if importlib.util.find_spec("kspike") and importlib.util.find_spec("kspike._csrc"):
        return os.environ.get("PYTHONPATH", "")
    folder = tempfile.mkdtemp(prefix="kspike-")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        folder,
        ROOT,
    ]
    subprocess.run(command, check=True, env={**os.environ, "KSPIKE_NO_CPP": "1"})
    sys.path.insert(0, folder)
    return folder


def run_tests(path):
    """The GPU tests and those of every engine; compute-sanitizer on one solve."""
    environment = {**os.environ, "PYTHONPATH": path}
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest, "tests/test_gpu.py", "tests/test_kernels.py", "tests/test_plan.py", "-k", "cupy or gpu"],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    sys.stdout.write(done.stdout[-3000:] + done.stderr[-1000:])
    found = {"pytest": (done.stdout.strip().splitlines() or ["nothing"])[-1], "passed": done.returncode == 0}
    tool = shutil.which("compute-sanitizer")
    for check in ("memcheck", "racecheck") if tool else ():
        command = [tool, "--tool", check, "--error-exitcode", "9", *pytest, "tests/test_gpu.py", "-k", "small_solve"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        found[check] = "clean" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]
        found["passed"] &= done.returncode == 0
    return found


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


def copy_rate(cupy):
    """Bytes a second of a large copy, counting those read and those written."""
    a = cupy.zeros(1 << 28, cupy.float32)
    b = cupy.empty_like(a)
    ms, _ = timed(cupy, lambda: cupy.copyto(b, a), 15)
    return 2 * a.nbytes / ms * 1e3


def bytes_per_pixel(np, mask, own):
    """What an iteration in complex64 has to move: rows 48, columns 17 and the sectors of the data that hold a sample.

    With cuFFT: four passes of 16, a copy of 16, and stencil and diagonal as launches of their own.
    """
    if not own:
        return 48 + 25 + 4 * 16 + 16
    sectors = np.fft.ifftshift(mask).reshape(mask.shape[0], -1, 4).any(-1).mean()
    return 48 + 17 + 8 * float(sectors)


def textbook(cupy, b, mask, t, iterations):
    """The over-relaxed ADMM in CuPy's own operations, three variables, two FFTs."""
    import kspike

    rows, cols = mask.shape
    sampled = cupy.fft.ifftshift(cupy.asarray(mask)).astype(cupy.float32)
    inverse = 1 / (sampled + RHO * cupy.fft.ifftshift(cupy.asarray(kspike.reference.symbol(mask.shape), cupy.float32)))
    grad = lambda x: cupy.stack([cupy.roll(x, -1, -2) - x, cupy.roll(x, -1, -1) - x], -3)  # noqa: E731
    clip = lambda v: cupy.clip(v.real, -t, t) + 1j * cupy.clip(v.imag, -t, t)  # noqa: E731
    z = cupy.zeros((len(b), 2, rows, cols), cupy.complex64)
    u = cupy.zeros_like(z)
    for _ in range(iterations):
        d = z - u
        right = b + RHO * (cupy.roll(d[:, 0], 1, -2) - d[:, 0] + cupy.roll(d[:, 1], 1, -1) - d[:, 1])
        x = cupy.fft.ifft2(inverse * cupy.fft.fft2(right))
        h = RELAX * grad(x) + (1 - RELAX) * z + u
        u = clip(h)
        z = h - u
    return x


def case(cupy, np, kspike, engine, n, batch, rate):
    """All times of one size, and the checked answers."""
    mask = kspike.radial_mask((n, n), lines=40 * n // 256)
    plan, t = engine.Plan(mask, "complex64"), LAM / RHO
    image = cupy.asarray(kspike.ellipses((n, n), seed=0).astype(np.complex64))
    x = cupy.repeat(image[None], batch, 0)
    y = plan.forward(x, cupy.empty((batch, int(mask.sum())), np.complex64))
    w = cupy.zeros((batch, 2, n, n), np.complex64)
    state, b = plan.state(w), plan.adjoint(y, cupy.empty_like(x))

    checked = 20 if n <= 1024 else 3
    exact = kspike.reference.Plan(mask)
    expected = np.empty((1, n, n), complex)
    y_exact = cupy.asnumpy(y[:1]).astype(complex)
    exact.iterate(exact.state(np.zeros((1, 2, n, n), complex)), y_exact, expected, t, RHO, RELAX, checked)
    plan.iterate(plan.state(w), y, x, t, RHO, RELAX, checked)
    scale = np.abs(expected).max()
    errors = {
        "iterate": float(np.abs(cupy.asnumpy(x) - expected).max() / scale),
        "textbook": float(np.abs(cupy.asnumpy(textbook(cupy, b[:1], mask, t, checked)) - expected).max() / scale),
    }

    def per_iteration(run, few=20, many=120):
        """ms of one iteration: the difference of two solves, so that what a solve costs once is not in it."""
        return (timed(cupy, lambda: run(many))[0] - timed(cupy, lambda: run(few))[0]) / (many - few)

    def taped(k):
        plan.iterate(state, y, x, t, RHO, RELAX, k, tape=plan.tape(batch))

    tape, gy, gw = plan.tape(batch), cupy.empty_like(y), cupy.empty_like(w)
    plan.iterate(plan.state(w), y, x, t, RHO, RELAX, 50, tape=tape)
    frozen = plan.freeze(state, t)
    tangent = plan.state(w)
    ms = {
        "iteration": per_iteration(lambda k: plan.iterate(state, y, x, t, RHO, RELAX, k)),
        "with tape": per_iteration(taped, 20, 60),
        "tangent": per_iteration(lambda k: plan.tangent(tangent, frozen, b, x, RHO, RELAX, k)),
        "reverse": timed(cupy, lambda: plan.reverse(tape, b, gy, gw, RHO, RELAX))[0] / 50,
        "textbook": per_iteration(lambda k: textbook(cupy, b, mask, t, k), 2, 12),
    }
    own = type(plan._passes).__name__ == "_Own"
    moved = bytes_per_pixel(np, mask, own) * n * n * batch
    return {
        "n": n,
        "batch": batch,
        "passes": "own" if own else "cuFFT",
        "ms": ms,
        "errors": errors,
        "correct": all(error < TOLERANCE for error in errors.values()),
        "bytes per pixel": moved / (n * n * batch),
        "share of the copy rate": moved / ms["iteration"] * 1e3 / rate,
        "textbook over iteration": ms["textbook"] / ms["iteration"],
    }


def git(*arguments):
    """What git says, or nothing."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def main():
    """Run, print a table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--out", type=pathlib.Path, help="where the record goes; default bench/records/DATE-DEVICE.json"
    )
    parser.add_argument("--quick", action="store_true", help="two small sizes")
    parser.add_argument("--no-tests", action="store_true", help="times only")
    given = parser.parse_args()
    cupy = device()
    path = build()
    import numpy as np

    import kspike
    from kspike._backends import select

    engine, properties = select("cupy"), cupy.cuda.runtime.getDeviceProperties(0)
    name = properties["name"].decode()
    record = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": name,
        "compute capability": cupy.cuda.Device().compute_capability,
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
        "machine": platform.platform(),
        "python": platform.python_version(),
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else ""),
        "flags": ["-std=c++17", "complex64", f"lam={LAM}", f"rho={RHO}", f"relax={RELAX}"],
        "tests": None if given.no_tests else run_tests(path),
        "copy bytes per second": copy_rate(cupy),
        "cases": [],
    }
    rate = record["copy bytes per second"]
    print(f"{name}, copy {rate / 1e12:.2f} TB/s; commit {record['commit']}")
    print(f"{'n':>5} {'batch':>5}  iteration     tape   tangent   reverse  textbook   of copy  error")
    for n, batch in QUICK if given.quick else CASES:
        found = case(cupy, np, kspike, engine, n, batch, rate)
        record["cases"].append(found)
        times = " ".join(f"{1e3 * ms:9.1f}" for ms in found["ms"].values())
        print(f"{n:5} {batch:5}  {times} us {found['share of the copy rate']:6.0%}  {found['errors']['iterate']:.1e}")
        cupy.get_default_memory_pool().free_all_blocks()
    out = given.out or ROOT / "bench" / "records" / f"{record['date'][:10]}-{name.replace(' ', '-')}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"record: {out}")
    right = all(found["correct"] for found in record["cases"])
    return 0 if right and (given.no_tests or record["tests"]["passed"]) else 1


if __name__ == "__main__":
    sys.exit(main())
