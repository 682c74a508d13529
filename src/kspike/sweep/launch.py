# SPDX-License-Identifier: MIT
"""The shards of a sweep on machines that somebody else manages: a Dask cluster, or Slurm through submitit.

Both only start `kspike sweep run SPEC --shard i/n`; what is done lies in the folder, which all machines must see.
"""

from __future__ import annotations

import subprocess
import sys
import time

__all__ = ["command", "dask", "submitit"]


def command(arguments, shard):
    """The command line of one shard."""
    return [sys.executable, "-m", "kspike", "sweep", "run", *arguments, "--shard", shard, "--quiet"]


def dask(address, arguments, shards=None, watch=None):
    """Run the shards, default one for each worker, on the Dask cluster with this scheduler; what each said.

    arguments : of `kspike sweep run`: the specification and options, with absolute paths
    watch : called as watch() twice a second meanwhile
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise _missing(error, "distributed", "dask") from None
    with Client(address, timeout="20s") as client:
        count = shards or len(client.scheduler_info(n_workers=-1)["workers"])
        if not count:
            raise ValueError(f"--dask: expected a cluster with workers, got none at {address}")
        # Each shard is a process of its own, so that a worker of Dask keeps talking to its scheduler.
        commands = [command(arguments, f"{i}/{count}") for i in range(count)]
        futures = [client.submit(_call, line, pure=False, retries=2) for line in commands]
        while not all(future.done() for future in futures):
            time.sleep(0.5)
            if watch is not None:
                watch()
        return client.gather(futures)


def submitit(partition, arguments, shards, log, timeout_min=24 * 60, watch=None):
    """Run the shards as one job array in this Slurm partition, or here if it is `local`; what each said.

    log : the folder for what submitit writes
    """
    try:
        import submitit as launcher
    except ModuleNotFoundError as error:
        raise _missing(error, "submitit", "submitit") from None
    executor = launcher.AutoExecutor(folder=log, cluster="local" if partition == "local" else None)
    executor.update_parameters(timeout_min=timeout_min)
    if partition != "local":
        executor.update_parameters(slurm_partition=partition)
    jobs = executor.map_array(_call, [command(arguments, f"{i}/{shards}") for i in range(shards)])
    while not all(job.done() for job in jobs):
        time.sleep(0.5)
        if watch is not None:
            watch()
    return [job.result() for job in jobs]


def _call(line):
    """Run a command: its exit status and the last line that it said on stderr."""
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines()
    return done.returncode, said[-1] if said else ""


def _missing(error, package, extra):
    """What to say where a package is missing; any other error goes on."""
    if error.name != package:
        return error
    return ImportError(f"launching with {package} needs it: pip install 'kspike[{extra}]'")
