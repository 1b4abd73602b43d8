# SPDX-License-Identifier: Apache-2.0
"""Integer golden model: one pure function for each hardware block, and the whole network."""
