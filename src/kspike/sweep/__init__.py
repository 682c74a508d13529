# SPDX-License-Identifier: MIT
"""Restartable sweeps of attacks: images x masks x noise x reconstructions x locations, from one short file.

>>> specification = read("table1.yaml")
>>> store = Store("table1.sweep")
>>> run(specification, store)
>>> results = collect(specification, store)

Parts are atomic files known by the hash of what they hold; any number of processes may compute them, in any order, and
be killed at any time. Nothing is ever unpickled.
"""

from kspike.sweep.pack import pack
from kspike.sweep.plan import plan
from kspike.sweep.report import report
from kspike.sweep.results import Results, collect
from kspike.sweep.run import Summary, run
from kspike.sweep.specification import Specification, Task, read
from kspike.sweep.store import Store

__all__ = ["Results", "Specification", "Store", "Summary", "Task", "collect", "pack", "plan", "read", "report", "run"]
