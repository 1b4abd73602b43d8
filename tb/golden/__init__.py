# SPDX-License-Identifier: Apache-2.0
"""Tests of the golden model against hand-worked numbers."""
