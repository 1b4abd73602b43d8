# SPDX-License-Identifier: Apache-2.0
"""Direct memory access: the AXI4 master and the LOAD and STORE units."""
