# SPDX-License-Identifier: Apache-2.0
"""The flow of synthesis, placement and routing."""
