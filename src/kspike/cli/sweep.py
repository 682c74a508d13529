# SPDX-License-Identifier: MIT
"""`kspike sweep`: attack sweeps from a short file, that can be stopped and go on."""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import sys

from kspike.cli import options

__all__ = ["add"]


def add(commands):
    """Add the command and its parts to the parser."""
    command = commands.add_parser(
        "sweep",
        help="attack sweeps from a short file, that can be stopped and go on",
        description="Attack every image, mask, noise level and reconstruction of a specification, SPEC, a YAML or TOML "
        "file, at a grid of locations. Results go to a folder, SPEC without its suffix and .sweep; whatever is there "
        "is not computed again.",
        allow_abbrev=False,
    )
    parts = command.add_subparsers(metavar="PART", required=True)
    for name, function, text in (
        ("plan", _plan, "what it will cost: tasks, FFT pairs, time, bytes"),
        ("run", _run, "compute all that is not done; stopped, the same command goes on"),
        ("status", _status, "what is done, what is left, what failed and why"),
        ("pack", _pack, "write sweep.zarr, for xarray, and table.parquet"),
        ("report", _report, "write report.html, one page that needs no network"),
    ):
        part = parts.add_parser(name, help=text, description=text, allow_abbrev=False)
        part.set_defaults(run=function)
        part.add_argument("spec", metavar="SPEC", help="the specification: .yaml, .toml or .json")
        part.add_argument("--out", metavar="FOLDER", help="where results lie")
        if name == "run":
            _add_run(part)


def _add_run(part):
    part.add_argument("--workers", type=int, metavar="N", help="processes; default: every core that this one may use")
    part.add_argument("--shard", type=shard, default=(0, 1), metavar="I/N", help="only tasks I, I + N, ..., I from 0")
    part.add_argument("--timeout", type=float, metavar="S", help="give a task up that takes longer, twice")
    part.add_argument("--retry", action="store_true", help="try again what failed")
    where = part.add_mutually_exclusive_group()
    where.add_argument("--dask", metavar="ADDRESS", help="run the shards on this Dask cluster")
    where.add_argument("--submitit", metavar="PARTITION", help="run the shards in this Slurm partition; `local`: here")
    part.add_argument("--shards", type=int, metavar="N", help="how many, with --dask and --submitit")
    part.add_argument("--quiet", action="store_true", help="no progress")


def shard(text):
    """(i, n) of `i/n`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 0 to N - 1, such as 0/4, got {text!r}")
    return int(match[1]), int(match[2])


def _read(arguments):
    """The specification and the store of the command."""
    from kspike import sweep

    out = arguments.out or f"{os.path.splitext(arguments.spec)[0]}.sweep"
    return sweep.read(arguments.spec), sweep.Store(out)


def _plan(arguments):
    from kspike.sweep.plan import plan

    specification, store = _read(arguments)
    found = plan(specification, store)
    cores = options.cores()
    _table(
        ("sweep", _axes(specification)),
        ("tasks", f"{found.tasks:,}, {found.done:,} done" + f", {found.failed:,} failed" * bool(found.failed)),
        ("attacks", f"{found.attacks:,}, {found.left:,} left"),
        ("pairs", "not counted by these reconstructions" if found.pairs is None else f"{found.pairs:.3g} left"),
        ("time", f"{duration(found.seconds)} of one core, {duration(found.seconds / cores)} of {cores}, by a trial"),
        *([("and", f"{found.tuned} lam to tune, a second or two each")] if found.tuned else []),
        (
            "files",
            f"{size(found.part_bytes)}, {size(found.kept_bytes)} of it {', '.join(specification.keep) or 'kept'}",
        ),
        ("folder", str(store.folder)),
    )


def _run(arguments):
    from kspike.sweep.run import run

    specification, store = _read(arguments)
    if arguments.dask or arguments.submitit:
        _launch(arguments, specification, store)
        return
    for name in ("workers", "shards"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise ValueError(f"--{name}: expected at least 1, got {getattr(arguments, name)}")
    asked = {"shard": arguments.shard, "workers": arguments.workers, "timeout": arguments.timeout}
    try:
        with contextlib.nullcontext() if arguments.quiet else options.progress(unit="attacks") as progress:
            summary = run(specification, store, retry=arguments.retry, progress=progress, **asked)
    except KeyboardInterrupt:
        print("kspike: stopped; the same command goes on", file=sys.stderr)
        raise
    _summarise(summary, store)


def _summarise(summary, store):
    ms = f"{1e3 * summary.overhead:.1f} ms"
    _table(
        ("done", f"{summary.done:,} of {summary.tasks:,} tasks, {summary.computed:,} of them now"),
        ("time", f"{duration(summary.seconds)}, {ms} of each task not spent in computing it"),
        *([("damaged", f"{summary.damaged} parts, computed again")] if summary.damaged else []),
        *([("deaths", f"{summary.deaths} workers died and were replaced")] if summary.deaths else []),
        *(("failed", f"{task[:12]}  {reason}") for task, reason in summary.failures.items()),
        ("folder", str(store.folder)),
    )
    if summary.failures:
        raise ValueError(f"{len(summary.failures)} of {summary.tasks} tasks failed; --retry tries them again")


def _launch(arguments, specification, store):
    """The shards elsewhere; what is done is read from the folder meanwhile."""
    from kspike.sweep import launch

    store.open()
    line = [os.path.abspath(arguments.spec), "--out", os.path.abspath(store.folder)]
    for name in ("workers", "timeout"):
        line += [f"--{name}", str(getattr(arguments, name))] if getattr(arguments, name) is not None else []
    line += ["--retry"] if arguments.retry else []
    ids = [task.id for task in specification.tasks()]
    with contextlib.nullcontext() if arguments.quiet else options.progress(unit="tasks") as progress:
        watch = (lambda: progress(sum(store.path(task).exists() for task in ids), len(ids))) if progress else None
        if arguments.dask:
            said = launch.dask(arguments.dask, line, arguments.shards, watch)
        else:
            log = store.folder / "submitit"
            said = launch.submitit(arguments.submitit, line, arguments.shards or 1, log, watch=watch)
    _status(arguments)
    failed = [text for code, text in said if code]
    if failed:
        raise ValueError(f"{len(failed)} of {len(said)} shards ended with an error, the last: {failed[-1]}")


def _status(arguments):
    specification, store = _read(arguments)
    tasks = [task.id for task in specification.tasks()]
    sound, damaged = store.done(tasks)
    failures = store.failures(task for task in tasks if task not in sound)
    others = store.others(tasks)
    left = len(tasks) - len(sound) - len(failures)
    _table(
        ("sweep", _axes(specification)),
        ("done", f"{len(sound):,} of {len(tasks):,} tasks, {100 * len(sound) / len(tasks):.4g} %"),
        ("left", f"{left:,}" + f", {len(damaged)} of them damaged" * bool(damaged)),
        *([("others", f"{others:,} parts of another specification")] if others else []),
        *(("failed", f"{task[:12]}  {record['reason']}") for task, record in failures.items()),
        ("folder", str(store.folder)),
    )


def _pack(arguments):
    from kspike import sweep

    specification, store = _read(arguments)
    group, table, results = sweep.pack(specification, _existing(store))
    _table(
        ("left out", f"{results.missing:,} tasks not done, {len(results.failures):,} failed"),
        ("written", f"{group}, {size(sum(p.stat().st_size for p in group.rglob('*') if p.is_file()))}"),
        ("and", f"{table}, {size(table.stat().st_size)}"),
    )


def _report(arguments):
    from kspike import sweep

    specification, store = _read(arguments)
    path = sweep.report(specification, _existing(store))
    _table(("written", f"{path}, {size(path.stat().st_size)}"))


def _existing(store):
    if not pathlib.Path(store.folder).is_dir():
        raise ValueError(f"{store.folder}: no such folder; kspike sweep run makes it")
    return store


def _axes(specification):
    names = ("reconstruction", "mask", "noise level", "image")
    counted = [f"{n} {name}{'s'[: n != 1]}" for n, name in zip(specification.sizes, names, strict=True)]
    return f"{' x '.join(counted)} x {len(specification.locations)} locations"


def _table(*rows):
    for name, text in rows:
        print(f"{name:<9}{text}")


def duration(seconds):
    """In words: 45 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def size(count):
    """In words: 340 kB, 1.2 GB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
