# SPDX-License-Identifier: MIT
"""The race with the packages people use: seconds to a certified relative gap, seconds per iteration, gradients.

    python bench/peers/race.py                    # all that is not in the record yet, then the table and the plot
    python bench/peers/race.py --step time --within 140     # only timings, for so many seconds
    python bench/peers/race.py --step count --budget 900    # goes on with the settings that 60 s were too few for
    python bench/peers/race.py --smoke            # 64 x 64, whoever is installed here, nothing written

Each contestant runs in a process of its own, by the interpreter of $KSPIKE_PEERS/ENVIRONMENT/bin/python if that is
there, else by this one; one that cannot be imported is skipped, with the reason. First, on a machine as busy as it
likes, the iterations to each gap are counted, for several settings of each at the smallest size, and beyond it for
the best there and their neighbours; then the clock is read with the best, each run from its start, on a quiet one, in
several passes over all of them, of which the least counts: what else the machine does falls on all alike. README.md
beside bench/run.py says how to read the table.
"""

import argparse
import collections
import contextlib
import datetime
import fcntl
import importlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import problem  # noqa: E402  this folder's

import run as bench  # noqa: E402

# name -> (module, environment)
CONTESTANTS = {
    "kspike cpp": ("ours", "kspike"),
    "kspike tuned": ("ours_tuned", "kspike"),
    "kspike numba": ("ours", "kspike"),
    "kspike reference": ("ours", "kspike"),
    "textbook NumPy": ("textbook", "kspike"),
    "textbook torch": ("textbook", "kspike"),
    "SigPy PDHG": ("with_sigpy", "sigpy"),
    "BART pics": ("with_bart", "bart"),
    "deepinv PDCP": ("with_deepinv", "deepinv"),
    "SCICO ADMM": ("with_scico", "scico"),
    "MRpro PDHG": ("with_mrpro", "mrpro"),
    "PyProximal": ("with_pyproximal", "pyproximal"),
    "ODL PDHG": ("with_odl", "odl"),
    "robust-nets": ("with_robust_nets", "robust-nets"),
}
GRADIENTS = ("kspike cpp", "textbook torch", "robust-nets")
SIZES, THREADS, GRADIENT_SIZE = (256, 512, 1024), (1, 2), 256
AIMS = {"complex64": (1e-3, 1e-4), "complex128": (1e-6,)}
LOOP = 200  # iterations of which a cost per iteration is the mean


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", type=pathlib.Path, help="JSON to go on with (bench/records/DATE-peers.json)")
    parser.add_argument("--step", choices=("count", "time", "table"), help="only this; default all three")
    parser.add_argument("--only", default="", help="contestants, with commas")
    parser.add_argument("--sizes", type=lambda t: tuple(int(v) for v in t.split(",")), default=SIZES)
    parser.add_argument("--threads", type=lambda t: tuple(int(v) for v in t.split(",")), default=THREADS)
    parser.add_argument("--dtypes", type=lambda t: t.split(","), default=list(AIMS), help="of complex64,complex128")
    parser.add_argument("--budget", type=float, default=60, help="CPU seconds to count one setting's iterations")
    parser.add_argument("--again", action="store_true", help="forget what is recorded of these")
    parser.add_argument("--passes", type=int, default=3, help="how often to go round with the clock")
    parser.add_argument("--within", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--patience", type=float, default=3600, help="seconds after which a contestant is given up")
    parser.add_argument("--smoke", action="store_true", help="64 x 64, one thread, nothing written")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.sizes, arguments.threads, arguments.budget, arguments.passes = (64,), (1,), 5, 1
    arguments.smallest = 64 if arguments.smoke else SIZES[0]
    path = arguments.record or HERE.parent / "records" / f"{datetime.date.today()}-peers.json"
    record = Record(None if arguments.smoke else path)
    names = [name for name in CONTESTANTS if not arguments.only or name in arguments.only.split(",")]
    if arguments.again:
        record.forget(names, arguments)
    end = time.monotonic() + arguments.within
    with tempfile.TemporaryDirectory() as folder:
        problems = Problems(pathlib.Path(os.environ.get("KSPIKE_PROBLEMS", folder)))
        for step in ("count", "time"):
            if arguments.step in (None, step):
                for key, arguments_of in tasks(step, record, names, arguments):
                    if time.monotonic() > end:
                        return print("out of time: call again to go on")
                    record.add(key, work(key[1], problems(key[2]), *arguments_of, patience=arguments.patience))
    if arguments.step in (None, "table"):
        import table

        print(table.text(record.held))
        if not arguments.smoke and arguments.only == "":
            table.write(record.held, HERE.parents[1] / "docs")


class Record:
    """What has been found, {key: result} under JSON keys "step|name|size|dtype|threads"; saved after each.

    Several races may write to one file: each reads it again, under a lock, before it adds to it.
    """

    def __init__(self, path):
        self.path, self.held, self.commit = path, {"machine": bench.machine(), "runs": {}}, bench.commit()
        with self.locked():
            pass

    @contextlib.contextmanager
    def locked(self):
        """The file read, and written again at the end."""
        if self.path is None:
            yield
            return
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if self.path.exists():
                self.held = json.loads(self.path.read_text())
            yield
            new = self.path.with_suffix(".new")
            new.write_text(text(self.held))
            new.replace(self.path)
        finally:
            os.close(folder)

    def get(self, key):
        """The result of a task, or None."""
        return self.held["runs"].get("|".join(map(str, key)))

    def forget(self, names, arguments):
        """Drop timings and gradients, and counts unless only timings are asked for."""
        steps = {"time", "gradient"} if arguments.step == "time" else {"count", "time", "gradient"}
        with self.locked():
            for key in list(self.held["runs"]):
                step, name, n, dtype, threads = key.split("|")[:5]
                if step in steps and name in names and int(n) in arguments.sizes and dtype in arguments.dtypes:
                    if step == "count" or int(threads) in arguments.threads:
                        del self.held["runs"][key]

    def add(self, key, result):
        """Keep and save a result; beside one that is there already, the least seconds, the settings of both."""
        with self.locked():
            before = self.get(key) or {}
            if "seconds" in before and "seconds" in result:
                result["seconds"] = least(before["seconds"], result["seconds"])
            if "runs" in before and "runs" in result:
                result = both(before, result)
            if not before or "skipped" not in result:
                told = {"passes": before.get("passes", 0) + 1, "commit": self.commit}
                self.held["runs"]["|".join(map(str, key))] = result | told
        print(*key, result.get("skipped") or result.get("best") or result.get("seconds"), flush=True)


def least(a, b):
    """The lesser seconds of two timings: numbers, or {count: [wall, CPU, gap]}."""
    if not isinstance(a, dict):
        return min(a, b)
    return a | {k: [min(a[k][0], v[0]), min(a[k][1], v[1]), v[2]] if k in a else v for k, v in b.items()}


def both(before, result):
    """What was counted before, and now with other settings or a larger budget."""
    best = {
        aim: min(filter(None, (before["best"][aim], found)), key=lambda run: run[0], default=None)
        for aim, found in result["best"].items()
    }
    anew, told = [run["setting"] for run in result["runs"]], {name: before[name] for name in ("budget", "commit")}
    runs = [told | run for run in before["runs"] if run["setting"] not in anew] + result["runs"]
    return result | {"best": best, "runs": runs}


def text(held):
    """The record as JSON, one run a line."""
    runs = ",\n".join(f"{json.dumps(key)}: {json.dumps(run)}" for key, run in held["runs"].items())
    rest = json.dumps({key: value for key, value in held.items() if key != "runs"})
    return f'{rest[:-1]},\n"runs": {{\n{runs}\n}}}}\n'


class Problems:
    """Files of the problems by size, made when first asked for."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, n):
        """The file for n x n."""
        path = self.folder / f"{n}.npz"
        if not path.exists():
            problem.write(path, n, (50, 200) if n in (64, GRADIENT_SIZE) else ())
        return path


def tasks(step, record, names, arguments):
    """The tasks of a step that are not recorded: (step, name, size, dtype, threads) and the worker's arguments."""
    if step == "count":
        for n in arguments.sizes:
            for name in names:
                for dtype in arguments.dtypes:
                    key = ("count", name, n, dtype, 1)
                    if name not in problem.SAME:
                        wanted = settings(record, name, n, dtype, arguments.smallest)
                        for some in [wanted] if n == arguments.smallest else [[setting] for setting in wanted]:
                            found = record.get(key) or {}
                            if todo := untried(found, some, arguments.budget):
                                aim, budget = ",".join(map(str, AIMS[dtype])), str(arguments.budget)
                                given = ["--settings", json.dumps(todo), "--best", json.dumps(found.get("best", {}))]
                                yield key, ["find", "--dtype", dtype, "--aims", aim, "--budget", budget, *given]
        return
    for passes, threads, n in itertools.product(range(1, arguments.passes + 1), arguments.threads, arguments.sizes):
        for name, dtype in itertools.product(names, arguments.dtypes):
            for setting, counts in plans(record, name, n, dtype, arguments.smallest).items():
                key = ("time", name, n, dtype, threads, setting)
                if due(record.get(key), passes, counts):
                    options = ["--dtype", dtype, "--threads", str(threads), "--setting", setting]
                    yield key, ["time", *options, "--counts", ",".join(map(str, counts))]
        if threads == 1 and n in (64, GRADIENT_SIZE):
            for name, count in itertools.product(GRADIENTS, (50, 200)):
                key = ("gradient", name, n, "complex64", 1, count)
                if name in names and due(record.get(key), passes):
                    yield key, ["gradient", "--counts", str(count)]


def due(run, passes, counts=()):
    """Whether a timing did not fail, but has not been made so many times or lacks one of the iteration counts."""
    if run is None or "skipped" in run:
        return run is None
    return run["passes"] < passes or any(str(count) not in run["seconds"] for count in counts)


def settings(record, name, n, dtype, smallest):
    """All settings at the smallest size; then those that were best there, and their neighbours."""
    every = list(importlib.import_module(CONTESTANTS[name][0]).SETTINGS)
    found = {} if n == smallest else record.get(("count", name, smallest, dtype, 1)) or {}
    best = [run[1] for run in reversed(found.get("best", {}).values()) if run]
    near = [setting for setting in every if any(neighbours(setting, other, every) for other in best)]
    return [setting for i, setting in enumerate(best + near) if setting not in (best + near)[:i]] or every


def neighbours(a, b, every):
    """Whether two settings differ in one value, and no setting has one between."""
    differ = [name for name in a if a[name] != b[name]]
    if len(differ) != 1:
        return False
    (name,) = differ
    low, high = sorted((a[name], b[name]))
    return not any(low < c[name] < high for c in every if c | {name: a[name]} == a)


def untried(found, wanted, budget):
    """The settings without a run, or given up, before they met an aim or were beaten, with a smaller budget."""
    if "skipped" in found:
        return []
    left = []
    for setting in wanted:
        run = next((run for run in found.get("runs", ()) if run["setting"] == setting), None)
        if run is None or (run.get("budget", found["budget"]) < budget and not settled(run, found["best"])):
            left.append(setting)
    return left


def settled(run, best):
    """Whether more iterations would not better the best."""
    k, gap = run["curve"][-1]
    return all(gap <= float(aim) or (there and k >= there[0]) for aim, there in best.items())


def plans(record, name, n, dtype, smallest):
    """{setting: the iteration counts to time}: those of the best runs, and LOOP for the cost of an iteration where
    there are none, or where it does not take long.
    """
    found = record.get(("count", problem.SAME.get(name, name), n, dtype, 1)) or {}
    counts = collections.defaultdict(set)
    for best in found.get("best", {}).values():
        if best:
            counts[json.dumps(best[1])].add(best[0])
    if not counts and dtype == "complex64":  # not counted here: the cost of an iteration, with the setting found before
        found = record.get(("count", problem.SAME.get(name, name), smallest, "complex64", 1)) or {}
        for best in list(filter(None, found.get("best", {}).values()))[-1:]:
            counts[json.dumps(best[1])] = set()
    loop = {LOOP} if dtype == "complex64" and (n == smallest or not any(counts.values())) else set()
    return {setting: sorted(values | loop) for setting, values in counts.items()}


def work(name, path, task, *options, patience):
    """Run the worker in the contestant's environment."""
    module, environment = CONTESTANTS[name]
    python = pathlib.Path(os.environ.get("KSPIKE_PEERS", "/nowhere")) / environment / "bin" / "python"
    command = [
        str(python if python.exists() else sys.executable),
        "-W",
        "ignore",
        str(HERE / "worker.py"),
        module,
        name,
    ]
    try:
        done = subprocess.run([*command, str(path), task, *options], capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return {"skipped": f"{task}: not done after {patience:g} s"}
    if done.returncode:
        return {"skipped": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
