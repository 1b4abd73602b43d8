# SPDX-License-Identifier: Apache-2.0
"""Spike-driven self-attention: count matrices of K and V, used as weights for Q."""
