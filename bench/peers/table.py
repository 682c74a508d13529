# SPDX-License-Identifier: MIT
"""The record of a race as a table in Markdown, and as a plot of gap against seconds."""

import json

from problem import LAM, LINES, NOISE, SAME

TITLE = {
    "kspike cpp": "**kspike, C++**",
    "kspike tuned": "**kspike, C++, tuned**",
    "kspike numba": "kspike, Numba",
    "kspike reference": "kspike, reference",
    "robust-nets": "robust-nets' loop",
}


def text(held):
    """Every table of the record."""
    runs = {tuple(key.split("|")): value for key, value in held["runs"].items()}
    blocks = []
    for threads in sorted({key[4] for key in runs if key[0] == "time"}):
        for n in sorted({int(key[2]) for key in runs if key[0] == "time" and key[4] == threads}):
            blocks.append(f"\n{n} x {n}, {threads} thread{'s' * (threads != '1')}\n\n" + race(runs, str(n), threads))
    return "\n".join([*blocks, gradients(runs), *skipped(runs)])


def race(runs, n, threads):
    """One line a contestant, the fastest first."""
    rows = {name: row(runs, name, n, threads) for name in names(runs, "time", n, threads)}
    first, best = rows.get("kspike cpp", {}), rows.get("kspike tuned", {})
    lines = [
        "| | functional | ms per iteration | s to 1e-3 | s to 1e-4 | s to 1e-6, double "
        "| times kspike, an iteration | to 1e-4 | to 1e-4, tuned |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in sorted(rows.items(), key=lambda item: (taken(item[1]) or 9e9, item[1]["ms"] or 9e9)):
        cells = [
            TITLE.get(name, name),
            found["functional"],
            f"{found['ms']:.3g}" if found.get("ms") else "-",
            *(seconds(found.get(aim)) for aim in ("1e-3", "1e-4", "1e-6")),
            times(found.get("ms"), first.get("ms")),
            *(times(taken(found), taken(ours)) for ours in (first, best)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def taken(found, aim="1e-4"):
    """The seconds to a gap, or None."""
    return None if isinstance(found.get(aim), str) else (found.get(aim) or [None])[0]


def times(a, b):
    """How many times b is a."""
    return f"{a / b:.3g}" if a and b else "-"


def seconds(found):
    """Seconds and iterations, about if they are extrapolated; or what was reached within the limit."""
    if not found:
        return "-"
    if isinstance(found, str):
        return found
    return f"{'about ' * found[2]}{found[0]:.3g} ({found[1]})"


def names(runs, step, n, threads):
    """Who has a result."""
    return sorted({key[1] for key in runs if key[0] == step and key[2] == n and key[4] == threads and ok(runs[key])})


def ok(run):
    """Whether it was run."""
    return "skipped" not in run


def row(runs, name, n, threads):
    """What is said of a contestant: its least times, over the settings."""
    found, clock = {}, CPU if threads == "1" else WALL
    for dtype, aims in (("complex64", ("1e-3", "1e-4")), ("complex128", ("1e-6",))):
        count = runs.get(("count", SAME.get(name, name), n, dtype, "1"), {})
        functionals = (
            run["functional"] for key, run in runs.items() if key[1] == SAME.get(name, name) and "best" in run
        )
        found.setdefault("functional", next(functionals, "-"))
        mine = ("time", name, n, dtype, threads)
        timed = {key[5]: v["seconds"] for key, v in runs.items() if key[:5] == mine and ok(v)}
        if dtype == "complex64" and timed:
            found["ms"] = 1e3 * min(v[clock] / int(k) for run in timed.values() for k, v in run.items())
        for aim in aims:
            best = next((b for a, b in count.get("best", {}).items() if float(a) == float(aim)), None)
            if best:
                met = [
                    [v[clock], int(k), v[-1] is None]
                    for setting, run in timed.items()
                    for k, v in run.items()
                    if reached(float(aim), best, count["runs"], json.loads(setting), int(k), v[-1])
                ]
                found[aim] = min(met, default=None)
            elif "runs" in count:
                k, gap = min((run["curve"][-1] for run in count["runs"]), key=lambda last: last[1])
                found[aim] = f"{gap:.1e} at {k}"
    found.setdefault("ms", None)
    return found


def reached(aim, best, runs, setting, k, gap):
    """Whether k iterations come to the gap aimed at: as timed, or as counted where not all were run."""
    if gap is not None:
        return gap <= SLACK * aim
    curves = (run["curve"] for run in runs if run["setting"] == setting)
    return [k, setting] == best or any(i <= k and there <= aim for curve in curves for i, there in curve)


SLACK = 1.02  # the gap of the run that was timed: threads sum in another order


WALL, CPU = 0, 1


def gradients(runs):
    """Seconds and memory of a gradient."""
    lines = [
        "\nGradient through unrolled iterations, 256 x 256, one thread\n",
        "| | iterations | CPU seconds | MB at the peak, beyond the process | relative error |",
        "| --- | --- | --- | --- | --- |",
    ]
    found = {key: v for key, v in runs.items() if key[0] == "gradient" and ok(v)}
    for key, v in sorted(found.items(), key=lambda item: (int(item[0][5]), item[1]["seconds"])):
        name = TITLE.get(key[1], key[1])
        lines.append(f"| {name} | {key[5]} | {v['seconds']:.3g} | {v['megabytes']:.0f} | {v['error']:.1e} |")
    return "\n".join(lines)


def skipped(runs):
    """Who did not run, and why."""
    reasons = {(key[1], int(key[2]), key[3], v["skipped"]) for key, v in runs.items() if not ok(v)}
    return ["", *(f"* {name} at {n}, {dtype}: skipped, {why}" for name, n, dtype, why in sorted(reasons))]


def plot(held, path, n="256"):
    """Certified relative gap against seconds, one thread, each with its best setting to 1e-4."""
    import matplotlib.pyplot as plt

    runs = {tuple(key.split("|")): value for key, value in held["runs"].items()}
    figure, axes = plt.subplots(figsize=(8.5, 4.2))
    for name in names(runs, "time", n, "1"):
        found = row(runs, name, n, "1")
        count = runs.get(("count", SAME.get(name, name), n, "complex64", "1"), {})
        best = count.get("best", {}).get("0.0001")
        if not best or not found.get("1e-4"):
            continue
        curve = next(r["curve"] for r in count["runs"] if r["setting"] == best[1])
        per = found["1e-4"][0] / found["1e-4"][1]
        ours = name in ("kspike cpp", "kspike tuned")
        axes.loglog(
            [k * per for k, _ in curve],
            [gap for _, gap in curve],
            color="#c1121f" if ours else plt.get_cmap("tab20").colors[2 * len(axes.lines) % 19],
            ls="--" if name == "kspike tuned" else "-",
            lw=2.5 if ours else 1.2,
            label=name,
            zorder=3 if ours else 2,
        )
    axes.set(xlabel="seconds", ylabel="certified relative gap", ylim=(8e-5, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    figure.savefig(path, dpi=150)


HEAD = """# The race

Seconds to a certified relative gap, each contestant on its own functional and against its own optimum, whose lower
bound is proven in double precision (to 2e-8, beyond 256 to 1e-7, by kspike's duality gap on that functional). One
image of random ellipses, {lines} golden-angle lines, {noise:.0%} noise, lam = {lam:g}. In brackets the iterations.

* 1e-6 is below what single precision resolves and is run in double.
* With one thread the seconds are those of the CPU, with two those of the clock, the least of several runs in up to
  three passes over all contestants: the machine had other work. "About" is extrapolated from 12 s.
* Each is at its best of the settings in its file: of those with the fewest iterations to a gap the fastest; beyond 256
  of those that were best at 256, and their neighbours. The cost of an iteration is the least of its runs.
* A setting was given up after the CPU seconds that the record gives it: the cell then has the gap that was reached.
* "Tuned" is kspike with a penalty chosen for the problem, as those of the peers are: 10 or 20 iterations with a small
  one, then a larger one. "Times kspike" is over kspike as it comes, in the last column over the tuned one.

Made by

    python bench/peers/race.py

on {cpu} ({platform}), commit {commit}; `bench/records/` holds the record with settings and versions.
"""


def write(held, docs):
    """docs/race.md and docs/race.png."""
    commits = sorted({run["commit"] for key, run in held["runs"].items() if key.startswith("time|kspike cpp")})
    machine = held["machine"]
    facts = {"cpu": machine["cpu"], "platform": f"{machine['cores']} shared cores", "commit": ", ".join(commits)}
    head = HEAD.format(lines=LINES, noise=NOISE, lam=LAM, **facts)
    page = docs / "race.md"
    mark = "\n## What it says\n"
    _, _, said = page.read_text().partition(mark) if page.exists() else ("", "", "")
    page.write_text(head + text(held) + "\n\n![gap against seconds](race.png)\n" + mark + (said or "\n"))
    plot(held, docs / "race.png")
