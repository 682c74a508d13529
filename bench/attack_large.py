# SPDX-License-Identifier: MIT
"""Larger images: the default attack at one location, 40 lines, 4 % noise, and its evaluation until it stands still.

    python bench/attack_large.py --sizes 512,1024,2048

lam grows like sqrt(n). After the attack's own 150 pairs both rec(y) and rec(y + e) are solved on, in pieces, each from
its last state; one line of JSON after each piece. n2 / m is the pixels over the samples.
"""

import argparse
import json
import time

import numpy as np

import kspike

NOISE, LINES = 0.04, 40


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=lambda s: [int(n) for n in s.split(",")], default=[512, 1024])
    parser.add_argument("--pieces", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=250, help="of each piece")
    arguments = parser.parse_args()
    for n in arguments.sizes:
        for row in rows(n, arguments.pieces, arguments.iterations):
            print(json.dumps(row), flush=True)


def rows(n, pieces, iterations):
    """The attack, then the same artifact after each piece."""
    mask, place = kspike.radial_mask((n, n), lines=LINES), (n * 7 // 16, n * 7 // 16)
    tv = kspike.TVSolver(mask, 5.6e-3 * np.sqrt(n / 256))
    y, factor = tv.A(kspike.ellipses((n, n), seed=0)), n * n / tv.samples
    start = time.perf_counter()
    found = kspike.attack(tv, y, noise=NOISE, at=[place])
    row = {"n": n, "n2 / m": factor, "lam": tv.lam, "pairs": int(found.pairs[0]), "further": 0}
    yield row | measures(found, found.artifact, factor) | {"seconds": time.perf_counter() - start}
    clean = tv.solve(y, 1000)
    dirty = None
    for piece in range(1, pieces + 1):
        spike = None if dirty else (place, -tv.spike_height(found.eta))
        clean = tv.solve(y, iterations, 0, state=clean)
        dirty = tv.solve(y + found.perturbation, iterations, 0, state=dirty or clean, spike=spike)
        row |= {"further": piece * iterations, "seconds": time.perf_counter() - start}
        yield row | measures(found, dirty.x - clean.x, factor)


def measures(found, artifact, factor):
    """The artifact in units, and alpha over n2 / m."""
    top = float(np.abs(artifact).max())
    alpha = top / found.image_perturbation_max
    return {"units": top / found.eta / np.sqrt(factor), "alpha over n2 / m": alpha / factor}


if __name__ == "__main__":
    main()
