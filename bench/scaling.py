# SPDX-License-Identifier: MIT
"""How the iteration's cost depends on the size, the threads and the length of a call: complex64, interleaved ratios.

* `taskset -c 1 python bench/scaling.py sizes`: other sizes beside their power-of-two neighbour
* `taskset -c 1 python bench/scaling.py large`: to 8192 x 8192, time and memory
* `taskset -c 1 python bench/scaling.py calls`: calls of 3 iterations beside a long one
* `taskset -c 1 python bench/scaling.py variants`: complex128, and no over-relaxation, beside the usual iteration
* `python bench/scaling.py threads`: two threads beside one; needs two idle cores
"""

import argparse
import resource
import statistics
import time

import numpy as np

import kspike
from kspike._backends import select

T, RHO, RELAX = 0.02, 0.1, 1.9
SIZES = {
    256: (250, 255, 300, 251, 257, 320, 384),
    512: (500, 509, 640, 720),
    1024: (1000, 1021, 768),
}


class Problem:
    """A plan and a state in the middle of a solve of noise; `iterate(count)` goes on."""

    def __init__(self, n, threads=1, batch=1, dtype="complex64", relax=RELAX):
        rng = np.random.default_rng(n)
        self.plan = select("cpp").Plan(kspike.radial_mask((n, n), lines=40), dtype, threads)
        self.x = _noise(rng, batch, n, n).astype(dtype)
        self.y = self.plan.forward(self.x, out=np.empty((batch, self._samples(n)), dtype))
        self.state = self.plan.state(np.zeros((batch, 2, n, n), dtype))
        self.zero = self.plan.state(np.zeros((batch, 2, n, n), dtype))
        self.pixels, self.relax = batch * n * n, relax
        self.iterate(3)

    def _samples(self, n):
        return int(kspike.radial_mask((n, n), lines=40).sum())

    def iterate(self, count):
        """`count` more iterations."""
        self.plan.iterate(self.state, self.y, self.x, T, RHO, self.relax, count)

    def step(self, count):
        """What a step of an attack asks of the engine: iterate, freeze, tangent, A dx."""
        self.iterate(count)
        tape, dx = self.plan.freeze(self.state, T), np.empty_like(self.x)
        self.plan.tangent(self.zero, tape, self.x, dx, RHO, self.relax, count)
        self.plan.forward(dx, out=np.empty_like(self.y))


def _noise(rng, *shape):
    return (rng.standard_normal((*shape, 2), "float32") @ np.array([1, 1j], "complex64")).astype("complex64")


def race(contestants, rounds):
    """Seconds of each in each round, {name: [...]}, the contestants taking turns."""
    times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def paired(a, b):
    """Median over the rounds of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def sizes(rounds):
    """ns per pixel and iteration, and as a multiple of the neighbour's."""
    for neighbour, others in SIZES.items():
        problems = {n: Problem(n) for n in (neighbour, *others)}
        count = max(2, 10 * 256 // neighbour)
        times = race({n: lambda p=p, count=count: p.iterate(count) for n, p in problems.items()}, rounds)
        per_pixel = {n: [s / count / problems[n].pixels for s in times[n]] for n in times}
        for n in times:
            ns, ratio = 1e9 * statistics.median(per_pixel[n]), paired(per_pixel[n], per_pixel[neighbour])
            print(f"{n:>5}: {ns:5.2f} ns a pixel, {ratio:.2f} x {neighbour}", flush=True)


def large(rounds):
    """Time and memory at 2048, 4096 and 8192."""
    for n in (2048, 4096, 8192):
        problem = Problem(n)
        seconds = statistics.median(race({n: lambda p=problem: p.iterate(1)}, max(3, rounds // 8))[n])
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{n:>5}: {1e3 * seconds:.0f} ms, {1e9 * seconds / n**2:.2f} ns a pixel, peak {memory:.1f} GiB", flush=True
        )


def calls(rounds):
    """Calls of three iterations, and the step of an attack, beside the same number in one call of sixty."""
    for n in (256, 512):
        problem, k = Problem(n), max(1, 40 * 256**2 // n**2 // 8)
        times = race(
            {
                "60": lambda p=problem: p.iterate(60),
                "3": lambda p=problem, k=k: [p.iterate(3) for _ in range(k)],
                "step": lambda p=problem, k=k: [p.step(3) for _ in range(k)],
            },
            rounds,
        )
        one = [s / 60 for s in times["60"]]
        short, step = ([s / k for s in times[name]] for name in ("3", "step"))
        print(
            f"{n:>5}: {1e3 * statistics.median(one):.3f} ms an iteration; in their number, a call of 3 costs", end=" "
        )
        print(
            f"{paired(short, one):.2f}, and iterate 3, freeze, tangent 3, forward {paired(step, one):.2f}", flush=True
        )


def variants(rounds):
    """The iteration in double precision, and with relax = 1, over the usual one."""
    for n in (256, 512, 1024, 2048):
        problems = {"usual": Problem(n), "double": Problem(n, dtype="complex128"), "relax 1": Problem(n, relax=1.0)}
        count = max(2, 10 * 256 // n)
        times = race({name: lambda p=p, count=count: p.iterate(count) for name, p in problems.items()}, rounds)
        double, plain = paired(times["double"], times["usual"]), paired(times["usual"], times["relax 1"])
        print(f"{n:>5}: complex128 {double:.2f} x, over-relaxation {plain:.2f} x", flush=True)


def threads(rounds):
    """How much faster two threads are: the images of a batch apart, and one image together."""
    for n, batch in ((256, 8), (256, 1), (512, 1), (1024, 1), (2048, 1)):
        one, two = Problem(n, 1, batch), Problem(n, 2, batch)
        count = max(2, int(0.04 / (2.5e-9 * one.pixels)))
        times = race({p: lambda p=p, count=count: p.iterate(count) for p in (one, two)}, rounds)
        print(f"{n:>5}, batch {batch}: {paired(times[one], times[two]):.2f} x by two threads", flush=True)


def main(parts, description):
    """The parts that the command line names, else all: each a function of the rounds."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=[], metavar=" ".join(parts))
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    for name in arguments.parts or parts:
        print(name)
        parts[name](arguments.rounds)


if __name__ == "__main__":
    main({part.__name__: part for part in (sizes, large, calls, variants, threads)}, __doc__)
