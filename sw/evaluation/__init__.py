# SPDX-License-Identifier: Apache-2.0
"""Whole data sets on the golden model, and a random sample of them on the RTL."""
