# SPDX-License-Identifier: MIT
"""The documentation site: python -m sphinx -W docs build/docs."""

import re
import tomllib
from pathlib import Path

project = "kspike"
author = "the kspike developers"
copyright = "2026, the kspike developers; MIT licence"
release = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = []
html_theme = "furo"
html_title = f"kspike {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
add_module_names = False


def rendered(lines):
    """The lines of a docstring as reStructuredText: formulas, which are indented, verbatim; the rest without markup.

    A section `Parameters` becomes a list; its entries are `names : text`, with more text beneath, indented.
    """
    out, parameters = [], False
    for k, line in enumerate(lines):
        following = lines[k + 1] if k + 1 < len(lines) else ""
        if re.fullmatch(r"-{3,}", line.strip()) and line.strip():
            continue
        if re.fullmatch(r"-{3,}", following.strip()) and following.strip():
            parameters = True
            out += ["", f"**{line.strip()}**", ""]
            continue
        entry = re.match(r"(\S.*?) : (.*)" if parameters else r"(\w+(?:, \w+)*) : (.*)", line)
        parameters = parameters or bool(entry)
        if entry:
            out += ["", f"* **{escaped(entry[1])}**: {escaped(entry[2])}"]
        elif parameters and re.match(r"\S", line) and following.startswith(" "):
            out += ["", f"* **{escaped(line)}**:"]
        elif parameters and line and (line.startswith(" ") or out[-1].startswith(("* **", "  "))):
            out.append(f"  {escaped(line.strip())}")
        elif line.startswith(" ") and (k == 0 or not lines[k - 1].strip() or out[-1].startswith("    ")):
            if not out or not out[-1].startswith("    "):
                out += ["", "::", ""]
            out.append(f"    {line}")
        else:
            parameters = parameters and not line.strip()
            if out and out[-1].startswith("    ") and line.strip():
                out.append("")
            out.append(escaped(line.strip()))
    return out


def escaped(text):
    """The text without reStructuredText's inline markup, except for code in single quotes of the backward kind."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(f"`{p}`" if len(p) > 2 and p.startswith("`") else re.sub(r"([\\*|_`])", r"\\\1", p) for p in parts)


def listed(app, docname, source):
    """In the index, {more} becomes the pages that it does not name."""
    if docname == "index":
        named = set(re.findall(r"^[\w-]+$", source[0], re.M))
        pages = sorted(path.stem for path in Path(__file__).parent.glob("*.md"))
        source[0] = source[0].replace("{more}", "\n".join(page for page in pages if page not in named | {"index"}))


def setup(app):
    """Read docstrings as they are written here: formulas and plain sentences."""

    def process(app, what, name, obj, options, lines):
        lines[:] = rendered(list(lines))

    def private(app, what, name, obj, options, signature, returns):
        return ("", None) if signature and re.search(r"\b_\w", signature) else None  # what only kspike makes

    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", private)
    app.connect("source-read", listed)
    app.connect("env-get-outdated", lambda *_: ["index"])  # a new page changes it
