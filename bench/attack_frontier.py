# SPDX-License-Identifier: MIT
"""The frontier of attacks: how much artifact is left as the image perturbation is capped, and what alpha that makes.

    python bench/attack_frontier.py --data ../shared/data --plot docs/attack-frontier.png
    python bench/attack_frontier.py --read frontier.json --plot docs/attack-frontier.png

The single pixel (112, 112), from the minus spike, 60 steps of 3 + 3 whose size falls from 0.6 to 0, 15 rounds of the
cap a step, lam = 0.14 noise; beside it the certified bound for all attacks with no larger ||A* e||_inf,
minus, 3000 pairs.
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
    parser.add_argument("--read", type=pathlib.Path, help="what an earlier run printed, to plot that")
    arguments = parser.parse_args()
    mask, image = kspike.radial_mask((256, 256), lines=40), kspike.ellipses((256, 256), seed=0)
    if arguments.data:
        with np.load(arguments.data / "ellipses.npz") as file:
            image = file["images"][0].astype("float32")
        with np.load(arguments.data / "masks.npz") as file:
            mask = file["radial40"].astype(bool)
    if arguments.read:
        rows = [json.loads(line) for line in arguments.read.read_text().splitlines()]
    else:
        rows = [point(image, mask, noise, cap) for noise in arguments.noise for cap in CAPS]
    if arguments.plot:
        plot(rows, arguments.plot)


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
    exact, most = kspike.TVSolver(mask, 0.14 * noise, dtype="complex128"), None if cap is None else spread
    certified = kspike.certify(exact, y.astype(complex), found.eta, (112, 112), -1, cap=most, pairs=3000)
    assert artifact <= certified.units, "an attack above its certified bound"
    row |= {"bound": certified.units, "alpha": artifact / spread * root**2, "pairs": int(found.pairs[0])}
    print(json.dumps(row), flush=True)
    return row


def plot(rows, path):
    """Alpha against the artifact, and against the largest there can be."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    for i, noise in enumerate(dict.fromkeys(row["noise"] for row in rows)):
        curve = [row for row in rows if row["noise"] == noise]
        artifact, bound, alpha = (np.array([row[key] for row in curve]) for key in ("artifact", "bound", "alpha"))
        axes.plot(artifact, alpha, f"C{i}o-", label=f"{100 * noise:g} % noise")
        axes.plot(bound, alpha * bound / artifact, f"C{i}:", label="no attack beyond")
    axes.set(yscale="log", xlabel=r"artifact / $\eta\,\sqrt{n^2/m}$", ylabel=r"amplification $\alpha$")
    ticks = (8, 10, 15, 20, 30, 40, 60)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
