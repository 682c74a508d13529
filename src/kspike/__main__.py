# SPDX-License-Identifier: MIT
"""`python -m kspike`: the command line."""

import sys

from kspike.cli import main

sys.exit(main())
