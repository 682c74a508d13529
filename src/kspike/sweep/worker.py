# SPDX-License-Identifier: MIT
"""A worker: `python -m kspike.sweep.worker FOLDER`, a process that computes tasks and writes their parts.

It reads one task a line from stdin, {"id", "description"}, and answers on stdout, a line each:

    {"ready": pid}                  send a task
    {"id", "there": true}           send the next: another driver has computed this one meanwhile
    {"id", "computed": seconds}     send the next: this one is being written
    {"id", "written": true}         its part is on the disk
    {"id", "failed": why}           it has none, and would fail again
    {"id", "stop": why}             a file could not be read or written: no use to go on

Parts are written by a thread beside the next task, for a disk takes its time to say that it has them. When stdin ends,
because the driver is done or dead, the worker ends at once: an unfinished task leaves nothing behind.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import sys
import threading
import traceback

from kspike.sweep.compute import compute
from kspike.sweep.store import Store

__all__ = ["main"]

AHEAD = 2  # parts that may wait for the disk


def main(folder):
    """Serve until stdin ends."""
    faulthandler.enable()
    answers = _Answers(os.dup(1))
    os.dup2(2, 1)  # what libraries print goes to the log
    store, tasks, parts = Store(folder), queue.SimpleQueue(), queue.Queue(AHEAD)
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    threading.Thread(target=_write, args=(store, parts, answers), daemon=True).start()
    answers.give(ready=os.getpid())
    while True:
        task = tasks.get()
        if store.done([task["id"]])[0]:
            answers.give(id=task["id"], there=True)
            continue
        try:
            arrays, about = compute(task["id"], task["description"], store)
        except MemoryError:
            raise  # ends this worker: a fresh one has more
        except Exception as error:
            system = isinstance(error, OSError) and error.errno
            answers.give(id=task["id"], **{"stop" if system else "failed": _reason(error)})
        else:
            answers.give(id=task["id"], computed=about["seconds"])  # first: the other thread may be done at once
            parts.put((task["id"], arrays, about))


def _write(store, parts, answers):
    """Write the parts as they come."""
    while True:
        task, arrays, about = parts.get()
        try:
            store.write(task, arrays, about)
        except OSError as error:
            answers.give(id=task, stop=str(error))
        else:
            answers.give(id=task, written=True)


def _listen(tasks):
    for line in sys.stdin:
        tasks.put(json.loads(line))
    os._exit(0)


class _Answers:
    """Lines of JSON for the driver, from any thread."""

    def __init__(self, file):
        self._file, self._lock = file, threading.Lock()

    def give(self, **answer):
        with self._lock:
            os.write(self._file, json.dumps(answer).encode() + b"\n")


def _reason(error):
    """The error and where in the sources it came from, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({os.path.basename(last.filename)}:{last.lineno})"


if __name__ == "__main__":
    main(sys.argv[1])
