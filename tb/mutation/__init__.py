# SPDX-License-Identifier: Apache-2.0
"""Random faults in the netlist, and whether the fast tests see them."""
