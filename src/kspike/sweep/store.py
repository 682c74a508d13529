# SPDX-License-Identifier: MIT
"""Where results lie: one file for each task, there in full or not at all.

A part is an .npz, read without pickle, whose zip comment is the SHA-256 of all that comes before it. It is written
under a temporary name of this process, flushed to the disk and renamed: a kill, a full disk or a power cut leaves the
part of before or none. A part that does not match its hash counts as not there and is computed again.

    FOLDER/parts/ab/abcd....npz     the arrays of a task, and `about`, JSON: who computed them, and how
    FOLDER/failed/abcd....json      a task that failed, with the reason
    FOLDER/tuned/....json           a lam that was tuned, with its curve
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import pathlib
import socket
import zipfile

import numpy as np

from kspike import files

__all__ = ["Store", "replace"]

DIGEST = 64  # hexadecimal digits


def _host():
    """A name for where process ids mean something: machine, boot and, in a container, its own table of processes."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # there on Linux
        parts.append(pathlib.Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


HOST = _host()


class Store:
    """The folder of one sweep. Any number of processes may write to it; each part has the name of its task."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def __repr__(self):
        return f"Store({str(self.folder)!r})"

    def open(self):
        """Make the folder, check that it can be written to, and remove what dead processes of this machine left."""
        probe = self.folder / f"probe.{HOST}.{os.getpid()}.tmp"  # a name that tidy knows, should it be left
        try:
            for name in ("parts", "failed", "tuned"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            replace(probe, b"")
        except OSError as error:
            reason = f"expected a folder that can be written to, got: {error.strerror}"
            raise OSError(error.errno, reason, str(self.folder)) from None
        probe.unlink()
        self.tidy()

    def tidy(self):
        """Remove what dead processes of this machine were writing."""
        for path in self.folder.rglob(f"*.{HOST}.*.tmp"):
            if not _alive(int(path.name.split(".")[-2])):
                path.unlink(missing_ok=True)

    def path(self, task):
        """Where the part of a task lies."""
        return self.folder / "parts" / task[:2] / f"{task}.npz"

    def write(self, task, arrays, about):
        """Write the part of a task: its arrays, and `about` as JSON."""
        for name, array in arrays.items():
            if np.asarray(array).dtype.hasobject:
                raise TypeError(f"{name}: expected numbers, got an array of Python objects, which only pickle can keep")
        file = io.BytesIO()
        about = np.frombuffer(json.dumps(about).encode(), np.uint8)
        np.savez(file, about=about, **arrays)
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = bytes(DIGEST)
        data = file.getvalue()[:-DIGEST]
        path = self.path(task)
        path.parent.mkdir(exist_ok=True)
        replace(path, data + hashlib.sha256(data).hexdigest().encode())

    def read(self, task):
        """The arrays of a task and its `about`; None where there is no part, or none that matches its hash."""
        try:
            data = self.path(task).read_bytes()
        except FileNotFoundError:
            return None
        if not _sound(data):
            return None
        try:
            arrays = files.archive(self.path(task), len(data), io.BytesIO(data))
            return arrays, json.loads(arrays.pop("about").tobytes())
        except files.broken():
            return None

    def done(self, tasks):
        """Those of the ids whose part is there and sound, and those whose part is there and is not."""
        sound, damaged = set(), set()
        for task in tasks:
            try:
                (sound if _sound(self.path(task).read_bytes()) else damaged).add(task)
            except FileNotFoundError:
                pass
        return sound, damaged

    def fail(self, task, reason, about):
        """Record that a task failed."""
        text = json.dumps({"task": task, "reason": reason, **about}, indent=1)
        replace(self.folder / "failed" / f"{task}.json", text.encode())

    def failures(self, tasks):
        """What was recorded of those of the ids that failed, by their id."""
        there = {path.stem for path in (self.folder / "failed").glob("*.json")}
        return {task: _json(self.folder / "failed" / f"{task}.json") for task in tasks if task in there}

    def forget(self, task):
        """Remove the record of a failure."""
        (self.folder / "failed" / f"{task}.json").unlink(missing_ok=True)

    def others(self, tasks):
        """How many parts there are of no task among the ids: of an earlier specification."""
        return len({path.stem for path in (self.folder / "parts").glob("*/*.npz")} - set(tasks))

    def tuned(self, name, compute):
        """What was tuned under this name, a table; computed and kept if it is not there."""
        path = self.folder / "tuned" / f"{name}.json"
        try:
            return _json(path)
        except (FileNotFoundError, ValueError):
            found = compute()
            replace(path, json.dumps(found, indent=1).encode())
            return found


def _sound(data):
    """Whether the bytes end with the hash of those before."""
    return len(data) > DIGEST and hashlib.sha256(data[:-DIGEST]).hexdigest().encode() == data[-DIGEST:]


def _json(path):
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {files.one_line(error)}") from None


def replace(path, data):
    """Put the bytes under this name, in full or not at all; `Store.tidy` knows what a kill leaves."""
    files.whole(path, lambda file: file.write(data), f"{path.name}.{HOST}.{os.getpid()}.tmp")
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _alive(pid):
    """Whether a process of this id runs here; one that is dead and that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    with contextlib.suppress(OSError):  # there on Linux
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in "ZX"
    return True
