# SPDX-License-Identifier: MIT
"""The results of arXiv 2206.05289, one function each, and what lies beyond them: `kspike paper --help`."""
