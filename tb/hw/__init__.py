# SPDX-License-Identifier: Apache-2.0
"""Tests of the hardware as a whole: what it is made of."""
