# SPDX-License-Identifier: MIT
"""The frontier of attacks: how much artifact is left as the image perturbation is capped, and what alpha that makes.

    python bench/attack_frontier.py --data ../shared/data --plot docs/attack-frontier.png

The single pixel (112, 112), from the minus spike, 60 steps of 3 + 3 whose size falls from 0.6 to 0, 15 rounds of the
cap a step, lam = 0.14 noise.
"""

import argparse
import json
import pathlib

import numpy as np

import kspike

CAPS = (None, 0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1)


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, help="folder with masks.npz and ellipses.npz; else generated ones")
    parser.add_argument("--noise", type=lambda s: [float(n) for n in s.split(",")], default=[0.01, 0.08])
    parser.add_argument("--plot", type=pathlib.Path)
    arguments = parser.parse_args()
    mask, image = kspike.radial_mask((256, 256), lines=40), kspike.ellipses((256, 256), seed=0)
    if arguments.data:
        with np.load(arguments.data / "ellipses.npz") as file:
            image = file["images"][0].astype("float32")
        with np.load(arguments.data / "masks.npz") as file:
            mask = file["radial40"].astype(bool)
    curves = {noise: [point(image, mask, noise, cap) for cap in CAPS] for noise in arguments.noise}
    if arguments.plot:
        plot(curves, arguments.plot)


def point(image, mask, noise, cap):
    """The artifact and ||A* e||_inf of one capped attack, in units of those of a spike, evaluated to 1e-5."""
    tv = kspike.TVSolver(mask, 0.14 * noise)
    y = tv.A(image)
    ball = kspike.Ball(cap=cap, rounds=15)
    found = kspike.attack(tv, y, noise=noise, at=[(112, 112)], radius=0, steps=60, ball=ball)
    clean, dirty = (tv.solve(v, 4000, 1e-5).x for v in (y, y + found.perturbation))
    root = np.sqrt(mask.size / tv.samples)
    artifact = float(np.abs(dirty - clean).max()) / (found.eta * root)
    spread = found.image_perturbation_max / (found.eta / root)
    row = {"noise": noise, "cap": cap, "artifact": artifact, "image perturbation": spread}
    row |= {"alpha": artifact / spread * root**2, "pairs": int(found.pairs[0])}
    print(json.dumps(row), flush=True)
    return row


def plot(curves, path):
    """Alpha against the artifact."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    for noise, rows in curves.items():
        axes.plot(
            [row["artifact"] for row in rows], [row["alpha"] for row in rows], "o-", label=f"{100 * noise:g} % noise"
        )
    axes.set(yscale="log", xlabel=r"artifact / $\eta\,\sqrt{n^2/m}$", ylabel=r"amplification $\alpha$")
    ticks = (8, 10, 15, 20, 30, 40, 50)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
