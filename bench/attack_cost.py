# SPDX-License-Identifier: MIT
"""Pairs, seconds, bytes per location: the default attack, the paper's on our kernels, the paper's in plain torch.

    OMP_NUM_THREADS=1 python bench/attack_cost.py
    python bench/attack_cost.py --size 32 --smoke      # tiny, answers checked

Each contestant runs in a fresh process, one thread, one location, 40 lines, 4 % noise, complex64, round after round.
Bytes are the growth of the process's peak memory once the problem is there, per pixel; "batched" is the default attack
on 64 locations at once, and its bytes those of each. The torch loop is the textbook ADMM with autograd,
two FFTs an iteration; it runs a few steps and iterations, timed, and is scaled to 30 steps and 5000 iterations
of evaluation; its first gradient is checked against ours.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import resource
import statistics
import time

import run

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

NOISE, LINES, LAM, RHO = 0.04, 40, 5.6e-3, 0.1
STEPS, UNROLL, FINAL = 30, 50, 5000


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="one round")
    parser.add_argument("--record", action="store_true", help="write bench/records/DATE-attack-CPU.json")
    arguments = parser.parse_args()
    context, contestants = multiprocessing.get_context("spawn"), (default, batched, paper, textbook)
    rounds = {contestant.__name__: [] for contestant in contestants}
    for _ in range(1 if arguments.smoke else arguments.rounds):
        for contestant in contestants:
            with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
                rounds[contestant.__name__].append(pool.submit(contestant, arguments.size).result())
    results = {
        name: found[0] | {"seconds": statistics.median(r["seconds"] for r in found)} for name, found in rounds.items()
    }
    for name, row in results.items():
        print(json.dumps({"contestant": name, **row}), flush=True)
    ours = rounds["default"]
    for name in ("paper", "textbook"):
        times = statistics.median(r["seconds"] / d["seconds"] for r, d in zip(rounds[name], ours, strict=True))
        results[name]["seconds_over_default"] = times
        print(
            f"{name} over default: {times:.0f} x in seconds, {results[name]['pairs'] / ours[0]['pairs']:.0f} in pairs"
        )
    if arguments.record:
        write(arguments, results)


def write(arguments, results):
    """The record, under bench/records."""
    facts = run.machine()
    date = time.strftime("%Y-%m-%d")
    record = {"date": date, "commit": run.commit(), "machine": facts, "versions": run.versions()}
    record |= {"command": "python bench/attack_cost.py --record", "size": arguments.size, "lines": LINES}
    record |= {"noise": NOISE, "lam": LAM, "threads": 1, "dtype": "complex64", "rounds": arguments.rounds}
    slug = "-".join(facts["cpu"].lower().replace("processor", "").split())
    path = pathlib.Path(__file__).parent / "records" / f"{date}-attack-{slug}.json"
    path.write_text(json.dumps(record | {"per location": results}, indent=1) + "\n")
    print(f"record: {path.name}")


def problem(n, **options):
    """The solver, the samples and a location."""
    import kspike

    tv = kspike.TVSolver(kspike.radial_mask((n, n), lines=min(LINES, n // 2)), LAM, **options)
    return tv, tv.A(kspike.ellipses((n, n), seed=0)), (n * 7 // 16, n * 7 // 16)


def peak():
    """Peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(n, preset, more, **options):
    """Per location: the difference of attacks at 1 + `more` locations and at one, which solve the clean image alike."""
    import kspike

    tv, y, place = problem(n, **options)
    before, clock = peak(), []
    for count in (1, 1 + more):
        start = time.perf_counter()
        found = kspike.attack(tv, y, noise=NOISE, at=[place] * count, preset=preset)
        clock.append(time.perf_counter() - start)
    seconds = (clock[1] - clock[0]) / more
    return {
        "pairs": int(found.pairs[0]),
        "seconds": seconds,
        "bytes_per_pixel": (peak() - before) / n**2,
        "units": found.units,
        "alpha": found.amplification,
    }


def default(n):
    """The default attack."""
    return timed(n, "default", 4)


def batched(n):
    """64 locations in one batch."""
    import kspike

    tv, y, place = problem(n)
    before, start = peak(), time.perf_counter()
    found = kspike.attack(tv, y, noise=NOISE, at=[place] * 64, batch=64)
    seconds = (time.perf_counter() - start) / 64  # the clean image included
    pairs = int(found.pairs[0])
    return {"pairs": pairs, "seconds": seconds, "bytes_per_pixel": (peak() - before) / n**2 / 64, "units": found.units}


def paper(n):
    """The compatible mode on our kernels."""
    return timed(n, "paper", 1, rho=RHO)


def textbook(n):
    """The paper's attack in torch, scaled from 2 steps and 50 iterations."""
    import numpy as np
    import torch

    from kspike import objectives
    from kspike.attack import PRESETS

    torch.set_num_threads(1)
    tv, y, place = problem(n, rho=RHO)
    mask = torch.from_numpy(np.fft.ifftshift(tv.A.mask))
    rows = cols = torch.from_numpy(2 - 2 * np.cos(2 * np.pi * np.arange(n) / n))
    inverse = (1 / (mask + RHO * (rows[:, None] + cols))).to(torch.float32)
    t = LAM / RHO

    def shrink(v):
        parts = torch.view_as_real(v)
        return torch.view_as_complex(parts - parts.clamp(-t, t))

    def adjoint(d):
        return d[0].roll(1, 0) - d[0] + d[1].roll(1, 1) - d[1]

    def run(k, z, iterations):
        """From the uncentred zero-filled spectrum k and (z, u = 0)."""
        u = torch.zeros_like(z)
        for _ in range(iterations):
            x = torch.fft.ifft2(inverse * (k + RHO * torch.fft.fft2(adjoint(z - u), norm="ortho")), norm="ortho")
            d = torch.stack([x.roll(-1, 0) - x, x.roll(-1, 1) - x])
            z = shrink(d + u)
            u = u + d - z
        return x, z

    full = np.zeros((n, n), "complex64")
    full[tv.A.mask] = y
    k = torch.from_numpy(np.fft.ifftshift(full))
    x = torch.fft.ifft2(k, norm="ortho")
    with torch.no_grad():
        reference, z = run(k, torch.stack([x.roll(-1, 0) - x, x.roll(-1, 1) - x]), 100)
    disk = torch.zeros(n * n, dtype=torch.bool)
    disk[torch.from_numpy(objectives.disk((n, n), place, 5))] = True
    disk = torch.fft.ifftshift(disk.reshape(n, n))
    e = np.zeros((n, n), "complex64")
    e[tv.A.mask] = 0.01 * np.linalg.norm(y) / np.sqrt(y.size)
    leaf = torch.from_numpy(np.fft.ifftshift(e)).requires_grad_()

    def gradient():
        leaf.grad = None
        x, _ = run(k + mask * leaf, z, UNROLL)
        ((x.abs() - reference.abs())[disk] ** 2).sum().backward()

    before = peak()
    start = time.perf_counter()
    for _ in range(2):
        gradient()
    step = (time.perf_counter() - start) / 2
    used = peak() - before
    start = time.perf_counter()
    with torch.no_grad():
        run(k, z, 50)
    seconds = STEPS * step + FINAL / 50 * (time.perf_counter() - start)

    kept = tv.unrolled(y, evaluate=100)
    x, pullback = kept.repeat(1).vjp((y + e[tv.A.mask])[None])
    _, g = PRESETS["paper"]["objective"].gradient(x[0], kept.reference, (objectives.disk((n, n), place, 5), 1))
    ours, theirs = pullback(g[None])[0], np.fft.fftshift(leaf.grad.numpy())[tv.A.mask]
    error = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    assert error <= 0.03, f"gradients differ by {error:.2g}"  # single supports flip between two orders of rounding
    return {
        "pairs": STEPS * 2 * UNROLL + FINAL,
        "seconds": seconds,
        "bytes_per_pixel": used / n**2,
        "gradient_error": error,
    }


if __name__ == "__main__":
    main()
