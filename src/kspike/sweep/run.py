# SPDX-License-Identifier: MIT
"""The driver: hands the tasks that are not done to worker processes of this machine, whatever happens to them.

Workers get and give lines of JSON through pipes; results go straight to the disk. A worker that dies is replaced and
its task goes to the end of the queue; a task whose worker died twice is recorded as failed. The driver itself keeps
nothing: started again, it finds on the disk what is done.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from kspike.sweep.compute import provenance

__all__ = ["Summary", "cores", "run"]

DEATHS = 2  # of workers on one task, before it counts as failed
STARTS = 5  # workers in a row that die before they are ready


@dataclass
class Summary:
    """What a run did."""

    done: int = 0
    """Tasks whose part is there now, of those of the shard."""
    tasks: int = 0
    """Tasks of the shard."""
    computed: int = 0
    damaged: int = 0
    """Parts that were there and did not match their hash: computed again."""
    deaths: int = 0
    """Workers that died."""
    seconds: float = 0.0
    overhead: float = 0.0
    """Seconds per task that the workers were up and not computing, but writing and waiting."""
    failures: dict = field(default_factory=dict)
    """Why a task failed, by its id: those of earlier runs too."""


def run(specification, store, *, shard=(0, 1), workers=None, timeout=None, retry=False, progress=None):
    """Compute every task of shard (i, n), tasks i, i + n, ..., that is not done; a `Summary`.

    workers : processes; default one for each core that this process may use, or one for the GPU with backend "cupy"
    timeout : seconds after which a task's worker is killed; default never
    retry : try again what failed in earlier runs
    progress : called as progress(attacks done, attacks to do), an attack being one location

    Raises OSError where the store cannot be written to, ChildProcessError, which is one, where workers cannot start.
    """
    index, count = shard
    tasks = specification.tasks()[index::count]
    store.open()
    sound, damaged = store.done(task.id for task in tasks)
    for task in store.failures(sound):  # of a driver that was killed between a part and this
        store.forget(task)
    failures = {} if retry else store.failures(task.id for task in tasks if task.id not in sound)
    todo = [task for task in tasks if task.id not in sound and task.id not in failures]
    summary = Summary(done=len(sound), tasks=len(tasks), damaged=len(damaged))
    summary.failures = {task: record["reason"] for task, record in failures.items()}
    if workers is None:
        workers = 1 if specification.backend == "cupy" else cores()
    workers = min(workers, len(todo))
    start = time.perf_counter()
    if todo:
        pool = _Pool(store, todo, summary, workers, timeout, progress)
        try:
            pool.work()
        finally:
            pool.close()
            store.tidy()
    summary.seconds = time.perf_counter() - start
    return summary


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """A process of `kspike.sweep.worker`, its pipes, the task it is at, and those whose parts it is writing."""

    def __init__(self, folder, crowd):
        self.log = tempfile.TemporaryFile()
        environment = dict(os.environ)
        if crowd > 1:
            environment |= {name: os.environ.get(name, "1") for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), package]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kspike.sweep.worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
            process_group=0,  # Ctrl-C is the driver's alone
        )
        self.task, self.since, self.late, self.writing = None, 0.0, False, {}
        self.began = self.last = None
        self._half = b""

    def give(self, task):
        """Send a task; False if the worker is dead."""
        self.task, self.since = task, time.perf_counter()
        try:
            self.process.stdin.write(json.dumps({"id": task.id, "description": task.description}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def answers(self):
        """The answers that have come, or None if the worker is dead."""
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        if not data:
            return None
        *lines, self._half = (self._half + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self):
        """Kill the process and close its pipes; how it ended, in words."""
        self.process.kill()
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.log.seek(0)
        said = [line for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        self.log.close()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return f"{how}: {said[-1].strip()}" if said else how


class _Pool:
    """Workers, the queue, and who is at what."""

    def __init__(self, store, todo, summary, workers, timeout, progress):
        self.store, self.summary, self.timeout, self.size = store, summary, timeout, workers
        self.queue, self.deaths, self.unready = collections.deque(todo), collections.Counter(), 0
        self.attacks, self.total = 0, sum(len(task.description["locations"]) for task in todo)
        self.progress = progress or (lambda *_: None)
        self.workers, self.selector, self.overhead = [], selectors.DefaultSelector(), 0.0

    def work(self):
        """Until the queue is empty and every worker idle."""
        self.progress(0, self.total)
        while self.queue or any(worker.task or worker.writing for worker in self.workers):
            busy = sum(bool(worker.task or worker.writing) for worker in self.workers)
            while len(self.workers) < min(self.size, busy + len(self.queue)):
                worker = _Worker(self.store.folder, self.size)
                self.workers.append(worker)
                self.selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            for key, _ in self.selector.select(timeout=1.0):
                worker = key.data
                answers = worker.answers()
                if answers is None:
                    self._died(worker)
                for answer in answers or ():
                    self._take(worker, answer)
            for worker in list(self.workers):
                idle = worker.began and not worker.task
                if idle and self.queue and not worker.give(self.queue.popleft()):
                    self._died(worker)
            self._expire()

    def close(self):
        """End the workers that are left."""
        for worker in self.workers:
            worker.end()
            self._account(worker)
        self.selector.close()
        if self.summary.computed:
            self.summary.overhead = self.overhead / self.summary.computed

    def _take(self, worker, answer):
        """One answer of a worker."""
        if "ready" in answer:
            worker.began = worker.last = time.perf_counter()
            self.unready = 0
        elif "stop" in answer:
            raise OSError(f"results cannot be read or written: {answer['stop']}; then the same command goes on")
        elif "computed" in answer:
            worker.writing[answer["id"]], worker.task = worker.task, None
            self.overhead -= answer["computed"]
        elif "failed" in answer or "there" in answer:
            task, worker.task = worker.task, None
            if "failed" in answer:
                self._fail(task, answer["failed"])
            else:
                self.summary.done += 1
                self.store.forget(task.id)
            self._count(task)
        else:
            task, worker.last = worker.writing.pop(answer["id"]), time.perf_counter()
            self.summary.done += 1
            self.summary.computed += 1
            self.store.forget(task.id)
            self._count(task)

    def _died(self, worker):
        """A worker is gone: its task goes to the end of the queue, or is given up."""
        self.workers.remove(worker)
        self.selector.unregister(worker.process.stdout)
        self._account(worker)
        how, task = worker.end(), worker.task
        self.summary.deaths += 1
        if not worker.began:
            self.unready += 1
            if self.unready == STARTS:
                raise ChildProcessError(f"{STARTS} workers in a row could not start: {how}")
        self.queue.extend(worker.writing.values())
        if task is None:
            return
        self.deaths[task.id] += 1
        if self.deaths[task.id] < DEATHS:
            self.queue.append(task)
        else:
            late = f"took longer than {self.timeout:g} s" if worker.late else "killed its worker"
            self._fail(task, f"{late} {DEATHS} times, the last by {how}")
            self._count(task)

    def _expire(self):
        """Kill workers whose task takes too long: then they have died."""
        for worker in self.workers:
            if self.timeout and worker.task and not worker.late and time.perf_counter() - worker.since > self.timeout:
                worker.late = True
                worker.process.kill()

    def _fail(self, task, reason):
        self.summary.failures[task.id] = reason
        self.store.fail(task.id, reason, {"finished": time.time(), "description": task.description, **provenance()})

    def _count(self, task):
        self.attacks += len(task.description["locations"])
        self.progress(self.attacks, self.total)

    def _account(self, worker):
        self.overhead += worker.last - worker.began if worker.began else 0.0
