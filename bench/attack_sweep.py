# SPDX-License-Identifier: MIT
"""The default attack against the plain spike, both signs, at every noise level of Table 1 and three masks.

    python bench/attack_sweep.py --images 50                          # generated images and masks
    python bench/attack_sweep.py --data ../shared/data --images 0     # the paper's

One line of JSON per cell (mask, noise, image). The spike is solved by 100 iterations from the clean state with the
spike put in. `--paper` adds the compatible mode at the middle location of the grid, `--check` an evaluation of the best
perturbation by 5000 plain iterations (relax = 1) in complex128, from zero and without stopping.
`--table` prints a table of all rows, means over the images.
"""

import argparse
import json
import pathlib

import numpy as np

import kspike

# the lam of least error against the truth, measured; 0.14 noise where it was not
LAMS = {0.005: 3.2e-4, 0.01: 6.4e-4, 0.02: 2.0e-3, 0.04: 5.6e-3, 0.08: 1.1e-2, 0.1: 1.4e-2}


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, help="folder with masks.npz and ellipses.npz")
    parser.add_argument("--images", type=int, default=2, help="generated ellipse images")
    parser.add_argument("--grid", type=int, default=2, help="locations along each axis")
    parser.add_argument("--noise", type=lambda s: [float(n) for n in s.split(",")], default=list(LAMS))
    parser.add_argument("--lines", type=lambda s: [int(n) for n in s.split(",")], default=[40, 25, 80])
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("sweep.json"), help="what it has is skipped")
    parser.add_argument("--plot", type=pathlib.Path, help="a picture of alpha and of the artifact in units of all rows")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()

    shape = (256, 256)
    images = {f"generated {seed}": kspike.ellipses(shape, seed=seed) for seed in range(arguments.images)}
    masks = {lines: kspike.radial_mask(shape, lines=lines) for lines in arguments.lines}
    if arguments.data:
        with np.load(arguments.data / "ellipses.npz") as file:
            images = {f"shared {i}": image.astype("float32") for i, image in enumerate(file["images"])} | images
        with np.load(arguments.data / "masks.npz") as file:
            masks = {lines: file[f"radial{lines}"].astype(bool) for lines in arguments.lines}
    arguments.out.touch()
    done = [json.loads(line) for line in arguments.out.read_text().splitlines()]
    done = {(row["image"], row["lines"], row["noise"]) for row in done}
    with arguments.out.open("a") as out:
        for name, image in images.items():
            for lines, mask in masks.items():
                for noise in arguments.noise:
                    if (name, lines, noise) in done:
                        continue
                    row = cell(image, mask, noise, arguments)
                    print(json.dumps({"image": name, "lines": lines, "noise": noise, **row}), file=out, flush=True)
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()]
    if arguments.plot:
        plot(rows, arguments.plot)
    if arguments.table:
        table(rows)


# Table 1 of arXiv 2206.05289: noise in % -> mean alpha for 25, 40, 80 lines
PAPER = {0.5: (8.12, 6.23, 3.15), 1: (9.05, 5.64, 3.55), 2: (9.05, 5.88, 3.22), 4: (9.06, 6.88, 3.19)}
PAPER |= {8: (9.75, 5.91, 3.07), 10: (8.80, 5.65, 2.99)}


def plot(rows, path):
    """Alpha over the noise for each mask, with the paper's table and the plain spike; beside it the artifact."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 3.6), layout="constrained", sharex=True)
    for i, (lines, color) in enumerate(((25, "C0"), (40, "C1"), (80, "C2"))):
        noises = sorted({row["noise"] for row in rows if row["lines"] == lines})
        if not noises:
            continue
        cells = [[row for row in rows if row["lines"] == lines and row["noise"] == n] for n in noises]
        percent = [100 * n for n in noises]
        for axes, name in ((left, "alpha"), (right, "units")):
            ours, spike = ([np.mean([row[key] for row in c]) for c in cells] for key in (name, f"spike_{name}"))
            axes.plot(percent, ours, "o-", color=color, label=f"{lines} lines: default attack")
            axes.plot(percent, spike, ":", color=color, label="plain spike")
        left.plot(list(PAPER), [alphas[i] for alphas in PAPER.values()], "x", color=color, label="paper, Table 1")
    left.set(xscale="log", xlabel="noise in % of the data", ylabel=r"amplification $\alpha$")
    right.set(xscale="log", xlabel="noise in % of the data", ylabel=r"artifact / $\eta\,\sqrt{n^2/m}$")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    figure.savefig(path, dpi=150)


def table(rows):
    """Means of each mask and noise level, and the least ratios to the spike and to the compatible mode."""
    columns = ("alpha", "units", "spike_alpha", "spike_units", "paper_alpha", "paper_units")
    print("| lines, noise |", " | ".join(columns), "| least over spike | over compatible | images |")
    for lines, noise in sorted({(row["lines"], row["noise"]) for row in rows}):
        chosen = [row for row in rows if (row["lines"], row["noise"]) == (lines, noise)]
        cells = [f"{np.mean([row.get(key, np.nan) for row in chosen]):.2f}" for key in columns]
        least = ("least_ratio_to_spike", "ratio_to_paper")
        cells += [f"{min(row.get(key, np.nan) for row in chosen):.2f}" for key in least]
        print("|", " | ".join([f"{lines}, {100 * noise:g} %", *cells, str(len(chosen))]), "|")


def cell(image, mask, noise, arguments):
    """What the default attack and its baselines find."""
    lam = LAMS.get(noise, 0.14 * noise)
    tv = kspike.TVSolver(mask, lam)
    y, grid = tv.A(image), (arguments.grid, arguments.grid)
    found = kspike.attack(tv, y, noise=noise, grid=grid)
    spikes = [
        kspike.attack(tv, y, noise=noise, grid=grid, steps=0, start=sign, final=100) for sign in ("minus", "plus")
    ]
    spike = np.maximum(*(s.artifact_maxima for s in spikes))
    row = {
        "lam": lam,
        "factor": mask.size / tv.samples,
        "alpha": found.amplification,
        "alpha_mean": float(found.amplifications.mean()),
        "units": found.units,
        "pairs": int(found.pairs.max()),
        "spike_alpha": max(s.amplification for s in spikes),
        "spike_units": max(s.units for s in spikes),
        "least_ratio_to_spike": float((found.artifact_maxima / spike).min()),
    }
    if arguments.paper:
        middle = ((arguments.grid - 1) // 2,) * 2
        paper = kspike.attack(tv, y, noise=noise, at=[found.locations[middle]], preset="paper")
        row |= {
            "paper_alpha": paper.amplification,
            "alpha_there": float(found.amplifications[middle]),
            "paper_units": paper.artifact_max / found.artifact_max * found.units,
            "ratio_to_paper": float(found.artifact_maxima[middle] / paper.artifact_max),
        }
    if arguments.check:
        exact = kspike.TVSolver(mask, lam, relax=1.0, dtype="complex128")
        twice = [y.astype(complex), y.astype(complex) + found.perturbation]
        clean, dirty = (exact.solve(v, 5000, 0).x for v in twice)
        row["checked"] = float(np.abs(dirty - clean).max() / found.artifact_max)
    return row


if __name__ == "__main__":
    main()
