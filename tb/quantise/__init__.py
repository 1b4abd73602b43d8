# SPDX-License-Identifier: Apache-2.0
"""Tests of the quantiser against the float modules and the reference traces."""
