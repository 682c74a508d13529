# SPDX-License-Identifier: MIT
"""Long runs: attacks for an hour in one process without growth of memory, and Ctrl-C inside a solve.

An interrupted solve answers within a second, and its plan computes the same bits as before.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time

import numpy as np

import kspike

TITLE = "Long runs and interruption"
GROWTH = 4 << 20  # bytes over the whole run once warm: the allocator's own pages; a leak of one image an attack is more
ANSWER = 1.0


def resident():
    """Resident memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def attacks(minutes):
    """Attacks of changing size, mask, norm and ball for so long: how many, and how far memory grew once warm."""
    end, count, start = time.monotonic() + 60 * minutes, 0, None
    begin = time.monotonic() + 6 * minutes
    while time.monotonic() < end or count < 12:
        n = (64, 96, 57)[count % 3]
        mask = kspike.radial_mask((n, n), lines=10 + count % 5)
        tv = kspike.TVSolver(mask, lam=5e-3, norm=("separable", "modulus")[count % 2], threads=1 + count % 2)
        y = tv.A(kspike.ellipses((n, n), seed=count))
        found = kspike.attack(tv, y, noise=0.04, grid=(2, 2), ball=("l2", "real")[count % 2])
        assert found.artifact_max > 0
        x, pull = tv.vjp(y, iterations=20)
        pull(x)
        count += 1
        if start is None and (time.monotonic() >= begin and count >= 6):
            gc.collect()
            start = resident()
    gc.collect()
    return count, max(0, resident() - start)


def interruption(backend, n, images=1):
    """Seconds from SIGINT inside a solve of n x n to KeyboardInterrupt; whether the plan computes as before."""
    mask = kspike.radial_mask((n, n), lines=40)
    tv = kspike.TVSolver(mask, lam=5e-3, rho=0.1, backend=backend, threads=2)  # a rho given: one call of the engine
    y = np.repeat(tv.A(kspike.ellipses((n, n), seed=0))[None], images, axis=0)
    before = tv.solve(y, max_iterations=3, tol=0).x
    sent = []

    def send():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.5, send)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        tv.solve(y, max_iterations=1_000_000, tol=0)
    except KeyboardInterrupt:
        answered = time.monotonic()
    else:
        raise AssertionError("a million iterations ended before the interruption")
    finally:
        signal.signal(signal.SIGINT, previous)
        timer.join()
    after = tv.solve(y, max_iterations=3, tol=0).x
    return answered - sent[0], bool(np.array_equal(before, after))


def run(minutes):
    """An hour of attacks or more in the long version; interruption of each engine at two sizes."""
    count, growth = attacks(max(60, minutes) if minutes >= 5 else minutes)
    table = [(f"{count} attacks in one process", f"grew by {growth / 2**20:.1f} MiB", f"{GROWTH / 2**20:.0f} MiB")]
    passed = growth <= GROWTH
    for backend in (name for name in kspike._backends.available() if name != "cupy"):
        for n, images in ((256, 1), (1024, 1), (256, 3)) if minutes >= 1 else ((256, 1),):
            seconds, same = interruption(backend, n, images)
            passed &= seconds <= ANSWER and same
            what = f"SIGINT in a solve, {backend}, {f'{images} images of ' * (images > 1)}{n} x {n}"
            bits = "same bits after" if same else "other bits after"
            table.append((what, f"{seconds:.2f} s, {bits}", f"{ANSWER:g} s"))
    return passed, table
