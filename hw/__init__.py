# SPDX-License-Identifier: Apache-2.0
"""Hardware of the accelerator: Amaranth components, and the numbers shared with the host."""
