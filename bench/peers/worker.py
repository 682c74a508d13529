# SPDX-License-Identifier: MIT
"""One contestant in a process of its own, in the environment that has its package; prints one line of JSON.

python worker.py MODULE NAME PROBLEM.npz find --dtype complex64 --aims 1e-3,1e-4 --budget 60 --settings '[{"rho": 1}]'
python worker.py MODULE NAME PROBLEM.npz time --dtype complex64 --setting '{"rho": 0.1}' --counts 120,240
python worker.py MODULE NAME PROBLEM.npz gradient --dtype complex64 --counts 50
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser()
    for name in ("module", "name", "problem", "task"):
        parser.add_argument(name)
    parser.add_argument("--dtype", default="complex64")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--aims", type=lambda t: [float(v) for v in t.split(",")])
    parser.add_argument("--counts", type=lambda t: [int(v) for v in t.split(",")])
    parser.add_argument("--setting", type=json.loads, help="to time")
    parser.add_argument("--settings", type=json.loads, help="to count")
    parser.add_argument("--best", type=json.loads, default={}, help="{aim: [iterations, setting]} found before")
    parser.add_argument("--budget", type=float, default=60, help="CPU seconds to count a setting's iterations")
    arguments = parser.parse_args()
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(arguments.threads)
    if arguments.task != "find":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-arguments.threads :])
    try:
        found = {"find": find, "time": seconds, "gradient": gradient}[arguments.task](arguments)
    except ModuleNotFoundError as error:
        found = {"skipped": str(error)}
    except ValueError as error:
        found = {"skipped": str(error)}
    own = sys.modules.get(arguments.module)
    found["versions"] = versions() | (own.versions() if hasattr(own, "versions") else {})
    print(json.dumps(found))


def load(arguments):
    """The module of the contestant and the problem."""
    from problem import Problem

    return importlib.import_module(arguments.module), Problem(arguments.problem)


def find(arguments):
    """The fewest iterations to each gap, over the settings: {aim: [iterations, setting]}.

    A setting is given up after so many CPU seconds of its own, looks not counted; what it reached is in its curve.
    """
    module, problem = load(arguments)
    make, aims = module.CONTESTANTS[arguments.name], sorted(arguments.aims, reverse=True)
    best, runs = {aim: arguments.best.get(f"{aim:g}") for aim in aims}, []
    for setting in arguments.settings:
        run = make(problem, arguments.dtype, arguments.threads, **setting)
        left, curve, spent, due = list(aims), [], [cpu(), 0.0], [1]  # the clock at the start, seconds of looks

        def look(k, x, left=left, setting=setting, curve=curve, spent=spent, due=due):
            if not module.LADDER and k < due[0]:
                return False
            now = cpu()
            curve.append([k, float(problem.gap(x, module.FUNCTIONAL))])
            while left and curve[-1][1] <= left[0]:
                aim = left.pop(0)
                if best[aim] is None or k < best[aim][0]:
                    best[aim] = [k, setting]
            due[0] = k + max(1, k // (40 if not left or curve[-1][1] < NEAR * left[0] else 10))
            look.left, look.curve = left, curve
            beaten = all(best[aim] and k >= best[aim][0] for aim in aims)
            spent[1] += cpu() - now
            return not left or beaten or now - spent[0] - spent[1] > arguments.budget

        run(MOST, look)
        thin = curve[:: max(1, len(curve) // 50)]
        runs.append({"setting": setting, "curve": thin + curve[-1:] * (thin[-1] != curve[-1])})
    found = {f"{aim:g}": run for aim, run in best.items()}
    return {"functional": module.FUNCTIONAL, "best": found, "budget": arguments.budget, "runs": runs}


MOST, NEAR = 20000, 3  # iterations; times the gap aimed at, whence looks are frequent


def seconds(arguments):
    """Seconds of so many iterations from the start: {count: [wall, CPU, gap]}, the least of some.

    CPU seconds, of one thread, are what the clock would say on an idle core. What would take longer than LONG is
    extrapolated from fewer iterations, and its gap is None.
    """
    module, problem = load(arguments)
    run = module.CONTESTANTS[arguments.name](problem, arguments.dtype, arguments.threads, **arguments.setting)
    run(3)
    start = time.perf_counter()
    run(5)
    single, found = (time.perf_counter() - start) / 5, {}
    for count in arguments.counts:
        run_for = count if single * count < LONG else max(5, int(LONG / single))
        walls, cpus = [], []
        while not walls or (len(walls) < 20 and sum(walls) < 1):
            start, busy = time.perf_counter(), cpu()
            x = run(run_for)
            walls.append(time.perf_counter() - start)
            cpus.append(cpu() - busy)
        scale, gap = count / run_for, None
        if run_for == count and module.FUNCTIONAL in problem.bounds:
            gap = problem.gap(x, module.FUNCTIONAL)
        found[count] = [min(walls) * scale, min(cpus) * scale, gap]
    return {"seconds": found}


LONG = 12


def cpu():
    """CPU seconds of this process and of those that it has run."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(s.ru_utime + s.ru_stime for s in spent)


def gradient(arguments):
    """CPU seconds and peak memory of a gradient through so many iterations, checked against double precision."""
    import numpy as np

    module, problem = load(arguments)
    from problem import RHO

    (count,) = arguments.counts
    run = module.GRADIENTS[arguments.name](problem, arguments.dtype, arguments.threads, count, RHO)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = run()
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    times = []
    while len(times) < 3 or (len(times) < 20 and sum(times) < 1):
        busy = cpu()
        run()
        times.append(cpu() - busy)
    expected = problem.gradient[count]
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return {"seconds": min(times), "megabytes": memory, "error": error}


PACKAGES = "numpy scipy torch kspike sigpy scico jax mrpro odl deepinv pyproximal pylops numba".split()


def versions():
    """Of the packages loaded here."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        if name in sys.modules:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = getattr(sys.modules[name], "__version__", "?")
    return found


if __name__ == "__main__":
    main()
