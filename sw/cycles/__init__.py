# SPDX-License-Identifier: Apache-2.0
"""The cycle model: how long a program takes, from its descriptors and the spikes of its maps."""
