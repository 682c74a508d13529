# SPDX-License-Identifier: MIT
"""The command line: one file a command. `kspike info` says what runs here; `kspike COMMAND --help` the rest.

A command is a module with `add(commands)`, which adds its parser. Results go to stdout, everything else to stderr. Exit
status: 0, or 2 for wrong input, with the one line `kspike: error: ...`, or 130 when interrupted, or 141, in silence,
when nobody reads on, as in `kspike info | head -1`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings

from kspike.cli import attack, info, paper, sweep, train, tune
from kspike.cli.options import version

__all__ = ["main"]

COMMANDS = (info, attack, tune, train, sweep, paper)


def main(argv=None):
    """Run one command; the exit status."""
    try:
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # for what is still in their buffers when Python ends
            os.dup2(nowhere, stream.fileno())
        return 128 + 13  # as a shell says of what SIGPIPE ended
    return status


def _run(argv):
    """Run one command; the exit status. Raises BrokenPipeError where nobody reads what it prints."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as end:  # argparse ends so after --help, --version and errors
        return end.code
    try:
        with _one_line_warnings():
            arguments.run(arguments)
    except BrokenPipeError:  # of the output: a sweep sees to the pipes of its workers where it writes to them
        raise
    except (ValueError, OSError, ImportError) as error:
        return _fail(error)
    except MemoryError:
        return _fail("expected an image that fits in memory")
    except KeyboardInterrupt:
        print("kspike: interrupted", file=sys.stderr)
        return 130
    return 0


def _fail(message):
    """Say what went wrong in one line; the exit status."""
    print("kspike: error:", " ".join(str(message).split()), file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage."""

    def error(self, message):
        sys.exit(_fail(f"{message} (see {self.prog} --help)"))


def _parser():
    parser = _Parser(prog="kspike", description="Attack and stress-test MRI reconstructions.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"kspike {version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


@contextlib.contextmanager
def _one_line_warnings():
    """Show warnings as one line, without the place in the source."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print("kspike: warning:", message, file=sys.stderr)
        yield
