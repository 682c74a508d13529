# SPDX-License-Identifier: MIT
"""README and docs/design.md are true: the code runs, the links lead somewhere, the file map is complete."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

import kspike

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = (
    "setup.py",
    "src/**/*.py",
    "src/**/*.pyi",
    "csrc/*.*",
    "tests/**/*.py",
    "tests/**/*.hpp",
    "tests/*.sh",
    "bench/*.*",
    "docs/*.md",
)
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def run(code, folder):
    """Run Python code in a fresh interpreter, in a folder of its own, with warnings as errors; what it prints."""
    path = os.pathsep.join(
        [str(pathlib.Path(kspike.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_example_is_the_quickstart(tmp_path):
    script = (ROOT / "examples" / "quickstart.py").read_text()
    assert script.endswith("\n\n" + BLOCKS[0])
    assert len([line for line in BLOCKS[0].splitlines() if line]) <= 12
    plain, attack = re.search(r"plain spike ([\d.]+), attack ([\d.]+)", run(BLOCKS[0], tmp_path)).groups()
    assert float(attack) > float(plain)


def test_every_other_example_runs(tmp_path):
    run("\n".join(BLOCKS[1:]), tmp_path)


PAGES = {page.stem: re.findall(r"```python\n(.*?)```", page.read_text(), re.S) for page in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("page", sorted(page for page, blocks in PAGES.items() if blocks))
def test_the_code_of_a_page_runs_from_top_to_bottom(tmp_path, page):
    run("\n".join(PAGES[page]), tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_run(tmp_path, path):
    assert run(path.read_text(), tmp_path)


def test_there_are_at_most_five_examples():
    assert len(list((ROOT / "examples").iterdir())) <= 5


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", "bench/README.md", *(f"docs/{page}.md" for page in PAGES)]
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_citation_has_the_version():
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.M)[1] == version


def test_the_file_map_is_complete():
    named = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "design.md").read_text(), re.M))
    there = {p.relative_to(ROOT).as_posix() for pattern in SOURCES for p in ROOT.glob(pattern) if p.is_file()}
    assert named - there - {p for p in named if (ROOT / p).is_file()} == set(), "named, but not there"
    assert there - named == set(), "there, but not named in docs/design.md"


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text()
    named = set(re.findall(r"^\.\. auto\w+:: kspike\.(?:\w+\.)*(\w+)$", page, re.M))
    for module in re.findall(r"^\.\. automodule:: kspike\.([\w.]+)$", page, re.M):
        named |= {module, *importlib.import_module(f"kspike.{module}").__all__}
    assert set(kspike.__all__) <= named


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", *(f"docs/{page}.md" for page in PAGES)])
def test_no_emphasis_begins_within_a_word(page):
    """As in A*A x and A*y, where a backslash is missing before the star."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    for token in parser.parse((ROOT / page).read_text()):
        before = ""
        for child in token.children or []:
            assert child.type != "em_open" or not before[-1:].isalnum(), token.content
            before = child.content
