# SPDX-License-Identifier: Apache-2.0
"""Studies of the bundled networks that decide what the hardware does not have."""
