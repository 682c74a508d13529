# SPDX-License-Identifier: MIT
"""The campaign: `python tests/reliability [CAMPAIGN ...] [--minutes M]` measures and writes docs/reliability.md.

What a campaign found is kept in bench/records/reliability/CAMPAIGN.json, a file of its own: one of them can be run
again alone, and several side by side. The page is made of all of these files. `--minutes 0` is the short version that
the suite runs. Exit status 1 if anything failed.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
RECORDS, PAGE = ROOT / "bench" / "records" / "reliability", ROOT / "docs" / "reliability.md"
CAMPAIGNS = (
    *("accuracy", "adjoints", "agreement", "edges", "large"),
    *("mutations", "sanitizers", "bindings", "readers", "endurance"),
)
HEAD = """# Reliability

What was tried to break kspike, and what came of it. `python tests/reliability` runs everything again and writes this
page; the suite runs a short version of each campaign. Seconds are those of a machine that does other things as well.

| campaign | result | command | when, commit | where | took |
| --- | --- | --- | --- | --- | --- |
"""


def commit():
    """The commit of the checkout, with + where files differ from it, other than what the campaigns write."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    written = (f":!{path.relative_to(ROOT)}" for path in (RECORDS, PAGE))
    return git("rev-parse", "--short", "HEAD") + (
        "+" if git("status", "--porcelain", "-uno", "--", ".", *written) else ""
    )


def processor():
    """The name of this processor."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


def text():
    """The text of docs/reliability.md, made of the records there are."""
    parts, head = [], HEAD
    for path in (RECORDS / f"{name}.json" for name in CAMPAIGNS):
        if not path.exists():
            continue
        found = json.loads(path.read_text())
        verdict = "passed" if found["passed"] else "**failed**"
        made = f"{found['date']}, {found['commit']} | {found['machine']} | {found['seconds']:.0f} s"
        head += f"| {found['title']} | {verdict} | `{found['command']}` | {made} |\n"
        rows = "".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |\n" for row in found["table"])
        parts.append(
            f"\n## {found['title']}\n\n{found['about']}\n\n| | measured | allowed |\n| --- | --- | --- |\n{rows}"
        )
    return head + "".join(parts) + (HERE / "contract.md").read_text()


def publish(name, record):
    """Write the record of one campaign, then the page: under a lock, so that the last to end writes what all found."""
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    with PAGE.open("r+") as page:
        fcntl.flock(page, fcntl.LOCK_EX)
        page.truncate()
        page.write(text())


def main():
    """Run the campaigns, write the record and the page; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("campaigns", nargs="*", choices=[*CAMPAIGNS, []], help="default: all")
    parser.add_argument("--minutes", type=float, default=10, help="for each campaign, where it takes any (10)")
    arguments = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent / "cuda")]
    failed = []
    for name in arguments.campaigns or CAMPAIGNS:
        module = importlib.import_module(name)
        print(f"== {module.TITLE}", flush=True)
        start, at = time.monotonic(), commit()
        passed, table = module.run(arguments.minutes)
        for row in table:
            print("  ", " | ".join(row), flush=True)
        failed += [] if passed else [name]
        record = {
            "title": module.TITLE,
            "about": " ".join(module.__doc__.partition("\n")[0::2]).replace("\n", " ").strip(),
            "passed": bool(passed),
            "table": table,
            "date": time.strftime("%Y-%m-%d"),
            "command": f"python tests/reliability {name} --minutes {arguments.minutes:g}",
            "commit": at,
            "machine": f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "seconds": time.monotonic() - start,
        }
        publish(name, record)
    if failed:
        print("failed:", *failed)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
