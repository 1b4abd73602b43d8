# SPDX-License-Identifier: Apache-2.0
"""Energy of a run: what was counted, times published energies of operations."""
