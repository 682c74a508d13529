# SPDX-License-Identifier: MIT
"""All that needs a GPU, in one command: build, test, check, time, write one record.

    python bench/gpu.py                              # every part, some twenty minutes
    python bench/gpu.py --parts copy,cases --out R   # some of them; R keeps what it has of the others
    python bench/gpu.py --limit 540 --out R          # begins no part after nine minutes; again, and it goes on
    python bench/gpu.py --dry                        # every line of it on the emulator, tiny, its times worth nothing

The parts are in bench/gpu_parts.py. The record is written after each, so that nothing is lost when the machine goes.
Runs the working tree itself if kspike is not installed. Exits with 2 where there is no GPU, with 1
if something is wrong.
"""

import argparse
import dataclasses
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))


@dataclasses.dataclass
class Setting:
    """What the parts are given."""

    cupy: object
    """CuPy, or what stands for it."""
    dry: bool
    """Tiny, on the emulator: the logic only."""
    path: str
    """PYTHONPATH for a process of its own."""
    record: dict
    """What has been found so far, by part."""


def leave(why):
    """Say what is missing, and stop."""
    sys.stderr.write(f"bench/gpu.py times a GPU and there is none: {why}\n")
    sys.exit(2)


def device():
    """CuPy, if there is a device, or an exit that says what is missing."""
    if importlib.util.find_spec("cupy") is None:
        leave("no CuPy: pip install 'kspike[gpu]'")
    import cupy

    if not cupy.cuda.is_available():
        leave(f"CuPy {cupy.__version__} is here, but no CUDA device and driver")
    return cupy


def emulated():
    """The emulator in place of CuPy and of the device."""
    sys.path.insert(0, str(ROOT / "tests" / "cuda"))
    import emulator

    engine = emulator.engine(tempfile.mkdtemp(prefix="kspike-"))
    sys.modules["kspike._backends.cupy"] = engine
    return engine.cupy


def build():
    """Make the working tree importable, CUDA sources and all, if kspike is not installed: links in a folder."""
    if importlib.util.find_spec("kspike") and importlib.util.find_spec("kspike._csrc"):
        return os.environ.get("PYTHONPATH", "")
    folder = tempfile.mkdtemp(prefix="kspike-")
    package = pathlib.Path(folder) / "kspike"
    package.mkdir()
    for path in (ROOT / "src" / "kspike").iterdir():
        (package / path.name).symlink_to(path)
    if not (package / "_csrc").exists():
        (package / "_csrc").symlink_to(ROOT / "csrc")
    sys.path.insert(0, folder)
    return folder


def about(cupy, dry):
    """The machine, the versions, the commit."""
    found = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "cupy": cupy.__version__,
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else ""),
        "device": "emulator",
    }
    if not dry:
        runtime, properties = cupy.cuda.runtime, cupy.cuda.runtime.getDeviceProperties(0)
        found |= {
            "device": properties["name"].decode(),
            "compute capability": cupy.cuda.Device().compute_capability,
            "multiprocessors": properties["multiProcessorCount"],
            "memory": properties["totalGlobalMem"],
            "L2": properties["l2CacheSize"],
            "driver": runtime.driverGetVersion(),
            "runtime": runtime.runtimeGetVersion(),
        }
    return found


def git(*arguments):
    """What git says, or nothing."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def write(path, record):
    """The record, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)


def main(arguments=None):
    """Run the parts that are asked for and not there yet, the record written after each."""
    import gpu_parts

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, help="the record; default bench/records/DATE-DEVICE.json")
    parser.add_argument("--parts", help=f"of {','.join(gpu_parts.PARTS)}: these, again if they are there")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which no part is begun")
    parser.add_argument("--dry", action="store_true", help="on the emulator, tiny")
    given = parser.parse_args(arguments)
    names = given.parts.split(",") if given.parts else list(gpu_parts.PARTS)
    if set(names) - set(gpu_parts.PARTS):
        parser.error(f"--parts: expected some of {', '.join(gpu_parts.PARTS)}, got {given.parts}")
    start, path = time.monotonic(), build()
    cupy = emulated() if given.dry else device()
    record = {"about": about(cupy, given.dry), "parts": {}}
    name = f"{record['about']['date'][:10]}-{record['about']['device'].replace(' ', '-')}.json"
    out = given.out or ROOT / "bench" / "records" / name
    if out.exists():
        record["parts"] = json.loads(out.read_text())["parts"]
    for name in names:
        done = name in record["parts"] and "error" not in record["parts"][name]
        if done and not given.parts:
            continue
        if time.monotonic() - start > given.limit:
            print(f"{name}: left for the next run")
            continue
        print(f"== {name} ({time.monotonic() - start:.0f} s)", flush=True)
        began = time.monotonic()
        try:
            found = gpu_parts.PARTS[name](Setting(cupy, given.dry, path, record["parts"]))
        except Exception as error:  # one part that fails leaves the others their time
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}", "correct": False}
        record["parts"][name] = {**found, "seconds": time.monotonic() - began, "commit": record["about"]["commit"]}
        write(out, record)
    print(f"record: {out}")
    return 0 if all(part.get("correct", True) for part in record["parts"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
