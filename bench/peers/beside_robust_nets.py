# SPDX-License-Identifier: MIT
"""robust-nets' loop beside kspike's, turn by turn in one process: medians of the ratios of an iteration within a round.

    python bench/peers/beside_robust_nets.py 256 512 1024      # a minute; see with_robust_nets.py for what it needs

Beside it what their loop cannot do without: its four transforms, alone, by torch (which it calls) and by SciPy, and
the same four in its own functions, which shift, copy and pick samples. kspike's iteration is that of a solve of 100,
its opening included; theirs that of a call of 1 + k without a call of 1.
"""

import pathlib
import statistics
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import problem
import with_robust_nets

import kspike
import run as bench


def main():
    """One line a size."""
    print(
        f"# commit {bench.commit()}; {bench.machine()['cpu']}; python bench/peers/beside_robust_nets.py", *sys.argv[1:]
    )
    print("| size | kspike | robust-nets | times | four transforms, torch | SciPy | its own functions |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for n in map(int, sys.argv[1:] or ("256",)):
        rounds = race(n)
        ours, loop = (1e3 * statistics.median(r[i] for r in rounds) for i in (0, 1))
        ratios = [statistics.median(r[i] / r[0] for r in rounds) for i in range(1, 5)]
        print(f"| {n} | {ours:.3g} ms | {loop:.3g} ms |", " | ".join(f"{r:.3g} x" for r in ratios), "|", flush=True)


def race(n):
    """Seconds of each contestant in each round."""
    import torch
    from scipy import fft

    mask = kspike.radial_mask((n, n), problem.LINES)
    tv = kspike.TVSolver(mask, problem.LAM)
    y = tv.A(kspike.ellipses((n, n), seed=problem.SEED))
    posed = Posed(mask, y)
    run = with_robust_nets.loop(posed, "complex64", 1, rho=0.1)
    A, W, samples, _ = with_robust_nets._problem(posed, "complex64", 1)
    kernel, image = W.get_fourier_kernel(), A.adj(samples)
    x = torch.view_as_complex(image[0].permute(1, 2, 0).contiguous())
    array, few = x.numpy().copy(), max(2, 2560 // n)

    def four_torch():
        for _ in range(2):
            torch.fft.ifft2(torch.fft.fft2(x))

    def four_scipy():
        for _ in range(2):
            fft.ifft2(fft.fft2(array))

    def four_own():
        A.adj(samples)
        A.tikh(image, kernel, 0.1)
        A(image)

    def solve():
        tv.solve(y, 100, 0)

    rounds, start = [], time.perf_counter()
    with torch.no_grad():
        while len(rounds) < 6 or (len(rounds) < 30 and time.perf_counter() - start < 18):
            few_more, one = seconds(run, 1 + few), seconds(run, 1)
            alone = [min(seconds(four) for _ in range(3)) for four in (four_torch, four_scipy, four_own)]
            rounds.append((seconds(solve) / 100, (few_more - one) / few, *alone))
    return rounds[1:]


class Posed:
    """What with_robust_nets asks of a problem."""

    def __init__(self, mask, y):
        self.mask, self.y, self.lam, self.n = mask, np.asarray(y, "complex128"), problem.LAM, len(mask)


def seconds(function, *arguments):
    """Of one call, by the clock."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
