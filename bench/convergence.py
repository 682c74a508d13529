# SPDX-License-Identifier: MIT
"""Pairs (FFT + inverse FFT) to the solution, over images, masks, noise and sizes, and beside other methods.

    python bench/convergence.py --data ../shared/data     # what the record lacks; then docs/convergence.md and .png
    python bench/convergence.py --smoke                   # tiny, nothing written

The data hold a spike, y = A x + eta A delta / ||A delta||, as an attack's do. x* is a long complex128 solve from the
start that is nearest, rec(y0) lifted, with its certificate beside it. Pairs are counted: no clock is read. Every case
is a line of the record, so that the command goes on where it was stopped; delete the record to measure anew.
"""

import argparse
import json
import pathlib
import subprocess

import numpy as np

import kspike

ROOT = pathlib.Path(__file__).parents[1]
DOCS, RECORD = ROOT / "docs", ROOT / "bench" / "records" / "convergence.jsonl"
LAM = {0.005: 3.2e-4, 0.02: 2.0e-3, 0.04: 5.6e-3, 0.08: 1.1e-2}  # the best for 256 x 256 ellipses and 40 lines
SEEDS = (110, 111, 112, 113, 114)  # of the images beside the paper's five, kept apart; `write` says what was looked at
CURVES = (3, 4)  # seeds of the images that every method is run on
AIM, LONG = 1e-3, {256: 1500, 512: 4000, 1024: 6000, 2048: 6000}
STARTS = ("cold", "from rec(y0)", "lifted")


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, help="a folder with ellipses.npz, the paper's five images")
    parser.add_argument("--record", type=pathlib.Path, default=RECORD, help="lines of JSON (bench/records/...)")
    parser.add_argument("--side", type=int, choices=sorted(LONG), help="only images of so many pixels a side")
    parser.add_argument("--smoke", action="store_true", help="two cases of 64 x 64, nothing written")
    arguments = parser.parse_args()
    if arguments.smoke:
        print(starts(64, 20, 0.02, 3, None), curves(64, 20, 0.02, 3, 40)["pairs"])
        return
    done = [json.loads(line) for line in arguments.record.open()] if arguments.record.exists() else []
    known = {tuple(row["case"]) for row in done}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    with arguments.record.open("a") as file:
        for case in cases(arguments.data):
            if tuple(case) not in known and arguments.side in (None, case[1]):
                what, *setting = case
                found = starts(*setting, arguments.data) if what == "starts" else curves(*setting)
                done.append({"case": case, "commit": commit.strip(), **found})
                file.write(json.dumps(done[-1]) + "\n")
                file.flush()
    write(done)


def cases(data):
    """What is measured: ("starts", side, lines, noise, image) or ("curves", ...), an image below 5 the paper's."""
    images = [*range(5 if data else 0), *SEEDS]
    found = [("starts", 256, 40, noise, image) for image in images for noise in LAM]
    found += [("starts", 512, 40, noise, image) for image in SEEDS[:2] for noise in LAM]
    found += [("starts", 256, lines, noise, image) for image in images for lines in (25, 80) for noise in LAM]
    found += [("starts", side, 40, noise, SEEDS[0]) for side, noise in ((1024, 0.02), (1024, 0.08), (2048, 0.02))]
    return found + [("curves", 256, 40, noise, seed) for seed in CURVES for noise in LAM]


class Case:
    """The data, the solver in double precision, rec(y0), where and how high the spike is, and x*."""

    def __init__(self, side, lines, noise, image, data=None):
        self.mask = kspike.radial_mask((side, side), lines)
        # lam at fixed lines grows as the root of the side: so does the noise in the samples
        self.lam = LAM[noise] * (side / 256) ** 0.5
        self.exact = kspike.TVSolver(self.mask, self.lam, dtype="complex128")
        if image < 5 and data:
            with np.load(data / "ellipses.npz") as arrays:
                x = next(iter(arrays.values()))[image]
        else:
            x = kspike.ellipses((side, side), seed=image)
        clean = self.exact.A(x.astype(complex))
        place = np.random.default_rng((side, lines, image)).integers(side // 8, side - side // 8, 2)
        eta = noise * np.linalg.norm(clean)
        self.known = tuple(place.tolist()), self.exact.spike_height(eta)
        self.y = clean + kspike.spike(self.exact.A, self.known[0], eta)
        self.start = self.exact.solve(clean, 4000, 1e-4)
        self.best = self.exact.solve(self.y, LONG.get(side, 1500), 0, state=self.start, spike=self.known)

    def begins(self, dtype):
        """How a solver of this precision begins, from each of STARTS."""
        tv = kspike.TVSolver(self.mask, self.lam, dtype=dtype)
        state = tv.state(self.start.state.field().astype(dtype))
        return tv, {"cold": {}, "from rec(y0)": {"state": state}, "lifted": {"state": state, "spike": self.known}}

    def error(self, x):
        """||x - x*||_inf."""
        return float(np.abs(x - self.best.x).max())


def starts(side, lines, noise, image, data):
    """Pairs to AIM from each start, by `looks`, and how a default solve ends: pairs, error over its aim."""
    case = Case(side, lines, noise, image, data)
    tv, begins = case.begins("complex64")
    y, aim = case.y.astype("complex64"), AIM * float(np.abs(case.exact.A.adjoint(case.y)).max())
    found = {"proof": case.best.certificate.relative, "aim": aim, "pairs": {}, "default": {}}
    for name, begin in begins.items():
        walk = ((pairs, case.error(x)) for pairs, x in steps(tv, y, looks(side), **begin))
        found["pairs"][name] = next((pairs for pairs, error in walk if error <= AIM), None)
        info = tv.solve(y, **begin)
        found["default"][name] = info.iterations, case.error(info.x) / aim
    return found


def looks(side):
    """After how many pairs x is looked at: every five, or above 512 pixels a side each time a tenth more."""
    return range(5, 601, 5) if side <= 512 else [round(100 * 1.1**k) for k in range(33)]


def steps(tv, y, counts, **begin):
    """(pairs, x) of `tv.solve(y, pairs, 0)` for each of these counts, a solve of its own."""
    return ((pairs, tv.solve(y, pairs, 0, **begin).x) for pairs in counts)


def curves(side, lines, noise, seed, most=240, every=10):
    """{method: [(pairs, error, relative gap)]} for one image, and the first pairs with an error of at most AIM."""
    case = Case(side, lines, noise, seed)
    exact, best, y = case.exact, case.best, case.y

    def look(pairs, x):
        gap = (exact.objective(x, y) - best.objective) / best.objective
        return pairs, case.error(x), max(gap, 1e-12)

    tv, begins = case.begins("complex128")
    counts = range(every, most + 1, every)
    runs = {f"ADMM, {name}": [look(*at) for at in steps(tv, y, counts, **b)] for name, b in begins.items()}
    single = {"no opening": {"rho": exact.rho}, "plain, rho 0.3": {"rho": 0.3, "relax": 1}}
    for name, options in single.items():
        tv = kspike.TVSolver(case.mask, case.lam, dtype="complex128", **options)
        runs[f"ADMM, {name}"] = [look(*at) for at in steps(tv, y, counts)]
    y64 = y.astype("complex64")  # the methods in Python: their errors here are far above its rounding
    for method, longest in ((kspike.PDHG, most), (kspike.FISTA, most // 2)):
        run, state = [], None
        for pairs in range(every, longest + 1, every):
            info = method(case.mask, lam=case.lam).solve(y64, every, 0, state=state)
            state = info.state
            run.append(look(pairs, info.x))
        runs[method.__name__] = run
    pairs = {name: next((k for k, error, _ in run if error <= AIM), None) for name, run in runs.items()}
    return {"proof": best.certificate.relative, "pairs": pairs, "runs": runs}


def write(done):
    """docs/convergence.md and docs/convergence.png from the lines of the record."""
    sizes = [row for row in done if row["case"][0] == "starts"]
    methods = [row for row in done if row["case"][0] == "curves"]
    proof = max(row["proof"] for row in done)
    commits = {}  # which lines are whose
    for row in done:
        what, side, count, *_ = row["case"]
        commits.setdefault(row["commit"], {})[f"{what} at {side}, {count} lines"] = None
    whose = [
        f"{commit} ({'; '.join(settings)})" if len(commits) > 1 else commit for commit, settings in commits.items()
    ]
    lines = [
        "# Convergence, measured",
        "",
        f"Pairs (FFT + inverse FFT) until ||x - x*||_inf <= {AIM:g}. Made by `python bench/convergence.py`, commit",
        f"{', '.join(whose)}; every case is a line of `bench/records/convergence.jsonl`. A spike of the budget noise",
        "||A x|| is in the data, at a random place. x* is a long complex128 solve, with a certified relative gap of at",
        f"most {proof:.0e}.",
        "",
        "## Images, masks, noise, sizes",
        "",
        "Counted in steps of 5, above 512 of a tenth, complex64, the median and the most over the images: the",
        f"paper's five and five generated ones, seeds {SEEDS[0]} to {SEEDS[-1]}, on which nothing was tuned (but 112",
        "was looked at for the rule that ends a solve before the first turn and for how turns from a state begin, 110",
        "at 1024 for the latter too, the paper's five once, for the rest of low images); above 256 the first of the",
        "generated.",
        "",
        table(sizes, lambda row, start: row["pairs"][start] or np.inf),
        "",
        "The default solve: pairs until it ends, the median and the most, and the largest error over its aim, which is",
        f"{AIM:g} max|A\\*y|.",
        "",
        table(sizes, lambda row, start: row["default"][start][0], lambda row, start: row["default"][start][1]),
        "",
        "## Other methods",
        "",
        f"Ellipses, seeds {CURVES}, 256 x 256, 40 radial lines, complex128, in steps of ten.",
        "",
    ]
    names = list(methods[0]["runs"]) if methods else []
    most = max((run[-1][0] for row in methods for run in row["runs"].values()), default=0)
    head = ["| noise | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    firsts, lasts = list(head), list(head)
    for noise in LAM:
        rows = [row for row in methods if row["case"][3] == noise]
        both = (
            " / ".join(str(row["pairs"][name] or f"> {row['runs'][name][-1][0]}") for row in rows) for name in names
        )
        last = (f"{max(row['runs'][name][-1][1] for row in rows):.1e}" for name in names if rows)
        firsts.append(f"| {100 * noise:g} % | " + " | ".join(both) + " |")
        lasts.append(f"| {100 * noise:g} % | " + " | ".join(last) + " |")
    lines += [*firsts, "", f"The larger error of the two images after {most} pairs:", "", *lasts, ""]
    lines += [f"FISTA takes 20 inner steps, without a transform, in each pair, and was run for {most // 2} pairs.", ""]
    lines += ["![objective gap and error against pairs](convergence.png)", ""]
    (DOCS / "convergence.md").write_text("\n".join(lines))
    draw([row for row in methods if row["case"][4] == CURVES[0]])


def table(rows, number, ratio=None):
    """A row for each size, mask and noise, a column for each start: median, most, and the largest ratio."""
    lines = ["| size, lines, noise | images | " + " | ".join(STARTS) + " |", "| --- | --- |" + " --- |" * len(STARTS)]
    settings = sorted({tuple(row["case"][1:4]) for row in rows}, key=lambda s: (s[0], s[1] != 40, s[1], s[2]))
    for side, count, noise in settings:
        same = [row for row in rows if tuple(row["case"][1:4]) == (side, count, noise)]
        cells = []
        for start in STARTS:
            numbers = [number(row, start) for row in same]
            cell = f"{np.median(numbers):g}, {max(numbers)}".replace("inf", f"> {looks(side)[-1]}")
            cells.append(cell + (f"; {max(ratio(row, start) for row in same):.2f}" if ratio else ""))
        lines.append(f"| {side}, {count}, {100 * noise:g} % | {len(same)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows):
    """Error and gap of one image against pairs, a column for each noise level."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not rows:
        return
    figure = Figure(figsize=(3.1 * len(rows), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(rows), sharex=True, sharey="row", squeeze=False)
    for column, found in enumerate(rows):
        for row, label in ((0, r"$\Vert x - x^* \Vert_\infty$"), (1, "relative objective gap")):
            for name, run in found["runs"].items():
                values = np.array(run)
                axes[row, column].semilogy(values[:, 0], values[:, 1 + row], label=name, linewidth=1.1)
            axes[row, column].grid(alpha=0.3, linewidth=0.5)
            if not column:
                axes[row, column].set_ylabel(label)
        axes[0, column].axhline(AIM, color="black", linewidth=0.6, linestyle=":")
        axes[0, column].set_title(f"{100 * found['case'][3]:g} % noise", fontsize=10)
        axes[1, column].set_xlabel("pairs")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(DOCS / "convergence.png", dpi=75)


if __name__ == "__main__":
    main()
