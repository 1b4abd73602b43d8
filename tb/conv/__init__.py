# SPDX-License-Identifier: Apache-2.0
"""Tests of the compute unit: window scan, groups, weights."""
