# SPDX-License-Identifier: Apache-2.0
"""Tests of the command line, the Python API behind it, and image files."""
