# SPDX-License-Identifier: Apache-2.0
"""Spike convolution: windows of spikes in, sums of weight rows out."""
