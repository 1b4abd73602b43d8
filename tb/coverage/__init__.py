# SPDX-License-Identifier: Apache-2.0
"""Which conditional lines of the hardware the tests reach, measured by Verilator."""
