# SPDX-License-Identifier: Apache-2.0
"""Floating-point definitions of the spike-driven transformers, in the published key layout."""
