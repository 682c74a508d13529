# SPDX-License-Identifier: MIT
"""Time the fused iteration against bare FFT pairs and the textbook, interleaved; print the table, write a record.

    OMP_NUM_THREADS=1 taskset -c 1 python bench/run.py            # the table, and bench/records/DATE-CPU-ISA.json
    python bench/run.py --smoke                                    # tiny, answers checked, nothing written

In every round each contestant runs for a moment, one after the other, and a ratio is the median of the rounds' ratios:
what else the machine does then falls on all alike. README.md beside this file says how to read the result.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
SIZES = (256, 512, 1024, 2048, 320, 384, 368)
SMOKE = (32, 48)


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")], help=f"{SIZES}")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--slice", type=float, default=0.02, help="seconds for each contestant in a round, at least")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without", default="", help="contestants to leave out, with commas")
    parser.add_argument("--smoke", action="store_true", help="two tiny sizes, three rounds, no record")
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)  # before any of these libraries is loaded
    sizes = arguments.sizes or (SMOKE if arguments.smoke else SIZES)
    rounds, moment = (3, 0.0) if arguments.smoke else (arguments.rounds, arguments.slice)

    print(f"{machine()['cpu']}, {threads_text(arguments.threads)}; commit {commit()}", flush=True)
    results = []
    for n in sizes:
        results.append(race(n, rounds, moment, arguments.threads, set(filter(None, arguments.without.split(",")))))
        print_race(results[-1])
    attacks = attack(arguments.threads, 32 if arguments.smoke else 256)
    print_table(results)
    print(
        f"\nattack {attacks['shape']}: {attacks['locations_per_second']:.2f} locations/s, {attacks['pairs']} pairs each"
    )
    if not arguments.smoke:
        path = write(arguments.threads, rounds, results, attacks)
        print(f"record: {path.relative_to(HERE.parent)}")


def race(n, rounds, moment, threads, without=()):
    """All contestants at n x n, in turns; their times in ms, the ratios of the fastest pair, and the checked errors."""
    from baselines import ITERATIONS, OPERATORS, PAIRS, Engine, Problem, missing

    problem = Problem(n)
    sweeps = ("with_tape", "plain", "reverse", "tangent")
    makers = {f"pair {name}": (module, lambda make=make: make(n, threads)) for name, (module, make) in PAIRS.items()}
    makers |= {name: (module, lambda make=make: make(problem, threads)) for name, (module, make) in ITERATIONS.items()}
    makers |= {
        f"cpp {name}": ("kspike._core", lambda name=name: getattr(Engine("cpp", problem, threads), name)())
        for name in sweeps
    }
    makers |= {name: ("kspike._core", lambda make=make: make(problem, threads)) for name, make in OPERATORS.items()}
    contestants, skipped, errors = {}, {}, {}
    for name, (module, make) in makers.items():
        why = "left out" if name in without else missing(module)
        if why:
            skipped[name] = why
            continue
        contestants[name] = make()
        errors[name] = contestants[name].checked()

    calls = {}
    for name, contestant in contestants.items():
        once = min(timed(contestant, 1), timed(contestant, 1)) * contestant.count / 1e3
        calls[name] = max(1, round(moment / once))
    times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            times[name].append(timed(contestant, calls[name]))

    pairs = [name for name in times if name.startswith("pair ")]
    fastest = min(pairs, key=lambda name: statistics.median(times[name]))
    return {
        "n": n,
        "fastest_pair": fastest.removeprefix("pair "),
        "ratio": {name: paired(times[name], times[fastest]) for name in times},
        "streaming": paired(times["copy"], times["gradient"]) if "copy" in times else None,
        "ratio_to_cpp": {name: paired(times[name], times["cpp"]) for name in times if "cpp" in times},
        "median_ms": {name: statistics.median(ms) for name, ms in times.items()},
        "best_ms": {name: min(ms) for name, ms in times.items()},
        "error": errors,
        "skipped": skipped,
    }


def timed(contestant, calls):
    """Milliseconds per unit of work."""
    start = time.perf_counter()
    for _ in range(calls):
        contestant.run()
    return (time.perf_counter() - start) * 1e3 / calls / contestant.count


def paired(a, b):
    """Median over the rounds of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def attack(threads, n):
    """Locations per second of the default attack on an ellipse image, and what it found."""
    import numpy as np

    import kspike

    mask = kspike.radial_mask((n, n), lines=40 if n > 64 else 8)
    tv = kspike.TVSolver(mask, lam=0.14 * 0.04, threads=threads)
    y = tv.A(kspike.ellipses((n, n), seed=0))
    start = time.perf_counter()
    found = kspike.attack(tv, y, noise=0.04, grid=(4, 4))
    seconds = time.perf_counter() - start
    assert found.artifact_max >= np.abs(tv(y + kspike.spike(tv.A, found.location, found.eta)) - found.clean).max()
    return {
        "shape": [n, n],
        "locations_per_second": found.artifact_maxima.size / seconds,
        "pairs": round(float(np.mean(found.pairs))),
        "amplification": found.amplification,
        "artifact_max": found.artifact_max,
    }


def print_race(result):
    """Every contestant of one size."""
    print(f"\n{result['n']} x {result['n']}    median ms   best ms   / fastest pair   error")
    for name, ms in sorted(result["median_ms"].items(), key=lambda item: item[1]):
        print(
            f"{name:<18}{ms:>9.3f} {result['best_ms'][name]:>9.3f} {result['ratio'][name]:>12.3f}   "
            f"{result['error'][name]:>13.1e}"
        )
    for name, why in result["skipped"].items():
        print(f"{name:<18}  {why}", flush=True)


def print_table(results):
    """One line per size: the iteration, the pair, their ratio, and the other sweeps by the iteration."""
    head = ("n", "iteration ms", "fastest pair ms", "ratio", "A and A*", "gradient", "tape", "reverse", "tangent")
    head += ("numba", "torch", "scipy")
    print("\n| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for r in results:
        best, ratio = r["median_ms"], r["ratio_to_cpp"]
        names = ("cpp with_tape", "cpp reverse", "cpp tangent", "numba", "textbook torch", "textbook scipy")
        cells = [
            str(r["n"]),
            f"{best['cpp']:.3f}" if "cpp" in best else "-",
            f"{best['pair ' + r['fastest_pair']]:.3f} ({r['fastest_pair']})",
            f"{r['ratio']['cpp']:.2f}" if "cpp" in best else "-",
            f"{r['ratio']['A and A*']:.2f}" if "A and A*" in best else "-",
            f"{r['streaming']:.2f}" if r["streaming"] else "-",
            *(f"{ratio[name]:.2f}" if name in ratio else "-" for name in names),
        ]
        print("| " + " | ".join(cells) + " |")
    print("A and A*: both over the fastest pair; gradient: its bandwidth over that of a copy;")
    print("tape ... scipy: their time over that of the iteration")


def write(threads, rounds, results, attacks):
    """The record, and where it is."""
    from kspike._backends import available, select

    isa = getattr(select("cpp"), "ISA", "none") if "cpp" in available() else "none"
    facts = machine()
    record = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": facts,
        "isa": isa,
        "threads": threads,
        "rounds": rounds,
        "versions": versions(),
        "unit": "ms per FFT pair or per iteration, complex64; ratio: median of the ratios of one round",
        "sizes": [rounded(result) for result in results],
        "attack": rounded(attacks),
    }
    slug = re.sub(r"[^a-z0-9]+", "-", facts["cpu"].lower()).strip("-")
    path = HERE / "records" / f"{record['date']}-{slug}-{isa}{f'-{threads}' if threads > 1 else ''}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def rounded(value):
    """Floats to four figures, at any depth."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def machine():
    """The processor and what of it counts."""
    text = pathlib.Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    name, flags, cache = (re.search(rf"^{key}\s*: (.*)", text, re.M) for key in ("model name", "flags", "cache size"))
    wanted = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni")
    return {
        "cpu": name[1] if name else platform.processor() or platform.machine(),
        "flags": " ".join(f for f in wanted if flags and f in flags[1].split()),
        "cache": cache[1] if cache else "",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "platform": platform.platform(),
    }


def commit():
    """The commit of the checkout, with + when files differ from it."""
    git = ["git", "-C", str(HERE)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + "+" * bool(changed.stdout)


def versions():
    """What took part."""
    found = {"python": platform.python_version()}
    for name in ("kspike", "numpy", "scipy", "numba", "torch", "pyfftw", "ducc0", "mkl_fft"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def threads_text(threads):
    """`1 thread`, `2 threads`."""
    return f"{threads} thread{'s'[: threads != 1]}"


if __name__ == "__main__":
    sys.exit(main())
