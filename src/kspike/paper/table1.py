# SPDX-License-Identifier: MIT
"""Table 1 of arXiv 2206.05289, its half on total variation: the amplification for three masks and six noise levels.

Three sweeps: the default attack; the plain spike, both signs, the stronger of the two; and the compatible mode, which
is the attack of the paper's code, for 40 lines. Each is a specification of `kspike.sweep`, run and resumed as one.
"""

from __future__ import annotations

import numpy as np

from kspike.sweep import Specification

__all__ = ["LINES", "NOISE", "PAPER", "specifications", "table"]

LINES = (25, 40, 80)
NOISE = (0.005, 0.01, 0.02, 0.04, 0.08, 0.1)
PAPER = {  # lines: (mean, standard deviation) at each noise level
    25: ((8.12, 2.83), (9.05, 2.56), (9.05, 2.40), (9.06, 0.43), (9.75, 0.52), (8.80, 0.71)),
    40: ((6.23, 2.16), (5.64, 2.24), (5.88, 0.40), (6.88, 0.56), (5.91, 0.28), (5.65, 0.42)),
    80: ((3.15, 0.15), (3.55, 0.26), (3.22, 0.19), (3.19, 0.10), (3.07, 0.07), (2.99, 0.11)),
}
SPIKE = {"steps": 0, "start": ["minus", "plus"], "final": 300}


def specifications(images=50, compatible=10, size=256, grid=(8, 8), spike_grid=(2, 2), compatible_grid=(2, 2)):
    """The sweeps by their names: "default" and "spike" on `images` images, "compatible" on its own number of them.

    Each has its grid of locations. lam is tuned for each mask and noise level, to the least error on three of the
    images with that noise.
    """

    def sweep(name, count, lines, places, attack, keep):
        return Specification(
            {
                "name": f"Table 1, {name}",
                "images": [{"kind": "ellipses", "size": size, "count": count}],
                "masks": [{"kind": "radial", "lines": n} for n in lines],
                "noise": list(NOISE),
                "reconstructions": [{"kind": "tv", "lam": "tuned"}],
                "attack": attack,
                "grid": list(places),
                "keep": keep,
            }
        )

    found = {"default": sweep("default attack", images, LINES, grid, {}, ["perturbation"])}
    found["spike"] = sweep("plain spike", images, LINES, spike_grid, SPIKE, [])
    if compatible:
        paper = {"preset": "paper"}
        found["compatible"] = sweep("compatible mode", compatible, (40,), compatible_grid, paper, ["perturbation"])
    return found


def table(results):
    """Lines of Markdown: for each mask and noise level alpha in the paper and in each sweep, by its `Results`."""
    heads = [name for name in ("default", "spike", "compatible") if name in results]
    lines = ["| lines, noise | n²/m | paper | " + " | ".join(f"{name}: α | artifact, spikes" for name in heads) + " |"]
    lines += ["| --- " * (3 + 2 * len(heads)) + "|"]
    for count in LINES:
        for n, noise in enumerate(NOISE):
            cells, factor = [], None
            for name in heads:
                found = results[name]
                if f"radial {count}" not in found.specification.labels["mask"]:
                    cells += ["", ""]
                    continue
                m = found.specification.labels["mask"].index(f"radial {count}")
                factor = found.factors[m]
                full = len(found.specification.images)
                cells += [_mean(found.selected(what)[0, m, n], full) for what in ("amplification", "units")]
            mean, spread = PAPER[count][n]
            row = [f"{count}, {100 * noise:g} %", f"{factor:.2f}", f"{mean:.2f} ± {spread:.2f}", *cells]
            lines.append("| " + " | ".join(row) + " |")
    return lines


def _mean(values, full):
    """Mean and standard deviation of what is there, and of how many where some are missing."""
    values = values[np.isfinite(values)]
    if not values.size:
        return "-"
    spread = values.std(ddof=1) if values.size > 1 else 0.0
    return f"{values.mean():.2f} ± {spread:.2f}" + f" ({values.size} images)" * (values.size < full)
