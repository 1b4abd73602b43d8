# SPDX-License-Identifier: Apache-2.0
"""Epilogue and LIF neurons: sums in, spikes, residual words and digit planes out."""
