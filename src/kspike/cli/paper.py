# SPDX-License-Identifier: MIT
"""`kspike paper`: the figures, the theory and the studies, one command each."""

from __future__ import annotations

import functools
import time

from kspike import plots
from kspike.cli import options, table1
from kspike.paper.figures import FIGURES, Setting
from kspike.paper.results import Results
from kspike.paper.section5 import SECTION5
from kspike.paper.studies import STUDIES

__all__ = ["add"]


def add(commands):
    """Add the command to the parser."""
    command = commands.add_parser(
        "paper",
        help="the results of arXiv 2206.05289, one command each",
        description="Make a figure of the paper, its section 5 in one dimension, or a study beyond it: a picture as "
        "PDF and PNG, and the numbers behind it as JSON and npz. Pieces that are done are kept in OUT/parts: a run "
        "that was stopped goes on where it was.",
        allow_abbrev=False,
    )
    what = command.add_subparsers(metavar="WHAT", required=True)
    figure = _add(what, "figure", "figure N of the paper, 1 to 7", _figure)
    figure.add_argument("number", type=int, choices=sorted(FIGURES), metavar="N", help="1 to 7")
    figures = _add(what, "figures", "all figures", _figures)
    for one in (figure, figures):
        one.add_argument("--size", type=int, default=256, metavar="N", help="side of the image (256)")
        one.add_argument("--lines", type=int, default=40, metavar="N", help="radial lines that are sampled (40)")
        one.add_argument("--grid", type=options.grid, default=(8, 8), metavar="RxC", help="locations attacked (8x8)")
    theory = _add(what, "theory", "section 5, in one dimension", _theory)
    theory.add_argument("part", nargs="?", choices=sorted(SECTION5), help="one part; default: all")
    study = _add(what, "study", "what lies beyond the paper", _study)
    study.add_argument("name", choices=sorted(STUDIES))
    _add(what, "all", "figures, theory and studies", _all)
    table1.add(what)


def _add(what, name, text, run):
    command = what.add_parser(name, help=text, description=f"Make {text}.", allow_abbrev=False)
    command.add_argument("--full", action="store_true", help="the paper's scale, or more than minutes")
    command.add_argument("--seed", type=int, default=0, help="of images, masks and signals (0)")
    command.add_argument("--threads", type=int, metavar="N", help="default: every core that this process may use")
    command.add_argument("--out", default="kspike-paper", help="the folder of the results (kspike-paper)")
    command.add_argument("--quiet", action="store_true", help="no progress")
    command.set_defaults(run=functools.partial(_run, run))
    return command


def _run(run, arguments):
    start = time.perf_counter()
    plots.need_matplotlib()
    if not 0 <= arguments.seed < 2**63:
        raise ValueError(f"--seed: expected an integer in [0, 2^63), got {arguments.seed}")
    arguments.threads = options.cores() if arguments.threads is None else arguments.threads
    show = None if arguments.quiet else functools.partial(options.progress, unit="steps")
    results = Results(arguments.out, options.version(), show)
    run(results, arguments)
    for path in results.written:
        print(path)
    print(f"{time.perf_counter() - start:.1f} s")


def _setting(arguments):
    chosen = {name: getattr(arguments, name) for name in ("size", "lines", "grid") if hasattr(arguments, name)}
    return Setting(seed=arguments.seed, full=arguments.full, threads=arguments.threads, **chosen)


def _figure(results, arguments):
    FIGURES[arguments.number](results, _setting(arguments))


def _figures(results, arguments):
    for make in FIGURES.values():
        make(results, _setting(arguments))


def _all(results, arguments):
    _theory(results, arguments)
    for make in STUDIES.values():
        make(results, seed=arguments.seed, full=arguments.full, threads=arguments.threads)
    _figures(results, arguments)


def _theory(results, arguments):
    for name in [arguments.part] if getattr(arguments, "part", None) else SECTION5:
        SECTION5[name](results, seed=arguments.seed, full=arguments.full)


def _study(results, arguments):
    STUDIES[arguments.name](results, seed=arguments.seed, full=arguments.full, threads=arguments.threads)
