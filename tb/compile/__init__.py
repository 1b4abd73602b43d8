# SPDX-License-Identifier: Apache-2.0
"""Tests of the compiler: programs run on the functional machine equal the golden model."""
