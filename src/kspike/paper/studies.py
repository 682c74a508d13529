# SPDX-License-Identifier: MIT
"""What lies beyond the paper."""

STUDIES: dict = {}
