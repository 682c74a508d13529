# SPDX-License-Identifier: MIT
"""`kspike paper table1`: the amplification for three masks and six noise levels, beside the paper's."""

from __future__ import annotations

import contextlib
import pathlib

from kspike.cli import options

__all__ = ["add"]


def add(results):
    """Add the result to the parser of `kspike paper`."""
    part = results.add_parser(
        "table1",
        help="table 1 of the paper, its half on total variation",
        description="Attack total variation for 25, 40 and 80 lines, six noise levels, 50 images, 64 locations; the "
        "plain spike, and the attack of the paper's code, at fewer locations. Stopped, the same command goes on. Each "
        "folder in OUT is one of `kspike sweep`.",
        allow_abbrev=False,
    )
    part.set_defaults(run=_table1)
    part.add_argument("--half", choices=["tv"], default="tv", help="of the table: tv, total variation")
    part.add_argument("--images", type=int, default=50, metavar="N", help="for the default attack and the spike (50)")
    part.add_argument("--compatible", type=int, default=10, metavar="N", help="images for the paper's attack (10)")
    part.add_argument("--size", type=int, default=256, metavar="N", help="side of the images (256)")
    part.add_argument("--grid", type=options.grid, default=(8, 8), metavar="RxC", help="of the default attack (8x8)")
    part.add_argument("--spike-grid", type=options.grid, default=(2, 2), metavar="RxC", help="of the spike (2x2)")
    part.add_argument(
        "--compatible-grid", type=options.grid, default=(2, 2), metavar="RxC", help="of the paper's attack (2x2)"
    )
    part.add_argument("--only", choices=["default", "spike", "compatible", "none"], help="run only this sweep")
    part.add_argument("--workers", type=int, metavar="N", help="processes; default: every core")
    part.add_argument("--out", default="table1", metavar="FOLDER", help="where results lie (table1)")
    part.add_argument("--quiet", action="store_true", help="no progress")


def _table1(arguments):
    from kspike import sweep
    from kspike.paper import table1

    grids = arguments.grid, arguments.spike_grid, arguments.compatible_grid
    asked = table1.specifications(arguments.images, arguments.compatible, arguments.size, *grids)
    results = {}
    for name, specification in asked.items():
        store = sweep.Store(pathlib.Path(arguments.out) / name)
        if arguments.only in (None, name):
            with contextlib.nullcontext() if arguments.quiet else options.progress(name, unit="attacks") as progress:
                sweep.run(specification, store, workers=arguments.workers, progress=progress)
        results[name] = sweep.collect(specification, store)
    print("\n".join(table1.table(results)))
