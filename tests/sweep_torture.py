# SPDX-License-Identifier: MIT
"""A sweep whose workers and driver are killed at random until it is done, and what is left of it then.

    python tests/sweep_torture.py --kills 100

Each kill is a `kill -9` of a worker or, one time in three, of the driver, which is then started again with the same
command. After every kill all parts on the disk are read. At the end the sweep is compared with an undisturbed one.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from kspike import sweep

SOURCE = pathlib.Path(sweep.__file__).parents[2]
SPECIFICATION = {
    "images": [{"kind": "ellipses", "size": 64}],
    "masks": [{"kind": "radial", "lines": 12}, {"kind": "radial", "lines": 20}],
    "noise": [0.02, 0.08],
    "reconstructions": [{"kind": "tv", "lam": 4e-3}],
    "grid": [2, 2],
    "keep": ["perturbation", "artifact"],
}


def main():
    """Run as the command line says, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--images", type=int, default=40, help="of four tasks each")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds at most between two kills")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(torture(pathlib.Path(folder), **vars(arguments)), indent=1))


def torture(folder, kills, images, workers, pause, seed):
    """Kill until so many kills are done and the sweep is; the figures."""
    rng = random.Random(seed)
    figures = dict.fromkeys(("driver kills", "worker kills", "sweeps", "torn parts seen", "lost", "corrupt"), 0)
    figures |= {"duplicated": 0, "left-over files": 0, "given up": 0, "tasks": 0, "seconds": 0.0}
    start = time.perf_counter()
    while figures["driver kills"] + figures["worker kills"] < kills:
        source = SPECIFICATION | {"seed": seed + figures["sweeps"]}
        source["images"] = [source["images"][0] | {"count": images}]
        here = folder / str(figures["sweeps"])
        here.mkdir()
        (here / "s.json").write_text(json.dumps(source))
        _disturbed(here, kills, workers, pause, rng, figures)
        _judge(here, figures)
        figures["sweeps"] += 1
    figures["seconds"] = round(time.perf_counter() - start, 1)
    return figures


def _disturbed(here, kills, workers, pause, rng, figures):
    """Run the sweep of a folder to its end, killing on the way."""
    specification, store = sweep.read(here / "s.json"), sweep.Store(here / "s.sweep")
    ids = [task.id for task in specification.tasks()]
    driver = _start(here, workers)
    while True:
        time.sleep(rng.uniform(0.05, pause))
        if driver.poll() is not None:
            if driver.returncode == 0:
                return
            if driver.returncode != -signal.SIGKILL:
                figures["given up"] += len(store.failures(ids))
            driver = _start(here, workers)
            continue
        if figures["driver kills"] + figures["worker kills"] == kills:
            continue
        victims = children(driver.pid)
        if rng.random() < 1 / 3:
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
            figures["driver kills"] += 1
        elif victims:
            try:
                os.kill(rng.choice(victims), signal.SIGKILL)
            except ProcessLookupError:
                continue
            figures["worker kills"] += 1
        figures["torn parts seen"] += len(store.done(ids)[1])


def _judge(here, figures):
    """Compare what is left with the sweep of somebody who was left in peace."""
    specification, store = sweep.read(here / "s.json"), sweep.Store(here / "s.sweep")
    peace = sweep.Store(here / "peace")
    sweep.run(specification, peace)
    tasks = specification.tasks()
    figures["tasks"] += len(tasks)
    for task in tasks:
        found, wanted = store.read(task.id), peace.read(task.id)
        if found is None:
            figures["lost"] += 1
        elif any(not np.array_equal(found[0][name], wanted[0][name]) for name in wanted[0]):
            figures["corrupt"] += 1
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    parts = [path for path in files if path.suffix == ".npz"]
    figures["duplicated"] += len(parts) - len({path.stem for path in parts} & {task.id for task in tasks})
    figures["left-over files"] += len(files) - len(parts)


def _start(here, workers):
    """The command that a user would type, and type again."""
    line = [sys.executable, "-m", "kspike", "sweep", "run", "s.json", "--quiet", "--retry", "--workers", str(workers)]
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    out = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(line, cwd=here, env=os.environ | {"PYTHONPATH": path}, **out)


def children(pid):
    """The processes that this one has started."""
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    main()
