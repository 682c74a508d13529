# SPDX-License-Identifier: MIT
"""The campaign: `python tests/reliability [CAMPAIGN ...] [--minutes M]` measures and writes docs/reliability.md.

What each campaign found is kept in bench/records/reliability.json, so that one of them can be run again alone; the page
is made of that file. `--minutes 0` is the short version that the suite runs. Exit status 1 if anything failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import platform
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
RECORD, PAGE = ROOT / "bench" / "records" / "reliability.json", ROOT / "docs" / "reliability.md"
CAMPAIGNS = (
    *("accuracy", "adjoints", "agreement", "edges", "mutations", "sanitizers", "bindings", "readers", "endurance"),
)
HEAD = """# Reliability

What was tried to break kspike, and what came of it. `python tests/reliability` runs everything again and writes this
page; the suite runs a short version of each campaign.

| campaign | result | when, commit | took |
| --- | --- | --- | --- |
"""


def commit():
    """The commit of the checkout, with + where files differ from it."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


def page(record):
    """The text of docs/reliability.md."""
    parts, head = [], HEAD
    for name in CAMPAIGNS:
        if name not in record:
            continue
        found = record[name]
        verdict = "passed" if found["passed"] else "**failed**"
        head += f"| {found['title']} | {verdict} | {found['date']}, {found['commit']} | {found['seconds']:.0f} s |\n"
        rows = "".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |\n" for row in found["table"])
        parts.append(
            f"\n## {found['title']}\n\n{found['about']}\n\n| | measured | allowed |\n| --- | --- | --- |\n{rows}"
        )
    return head + "".join(parts) + (HERE / "contract.md").read_text()


def main():
    """Run the campaigns, write the record and the page; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("campaigns", nargs="*", choices=[*CAMPAIGNS, []], help="default: all")
    parser.add_argument("--minutes", type=float, default=10, help="for each campaign, where it takes any (10)")
    arguments = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent / "cuda")]
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    failed = []
    for name in arguments.campaigns or CAMPAIGNS:
        module = importlib.import_module(name)
        print(f"== {module.TITLE}", flush=True)
        start = time.monotonic()
        passed, table = module.run(arguments.minutes)
        for row in table:
            print("  ", " | ".join(row), flush=True)
        failed += [] if passed else [name]
        record[name] = {
            "title": module.TITLE,
            "about": " ".join(module.__doc__.partition("\n")[0::2]).replace("\n", " ").strip(),
            "passed": bool(passed),
            "table": table,
            "date": time.strftime("%Y-%m-%d"),
            "commit": commit(),
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            "seconds": time.monotonic() - start,
        }
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
        PAGE.write_text(page(record))
    if failed:
        print("failed:", *failed)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
