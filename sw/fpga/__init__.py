# SPDX-License-Identifier: Apache-2.0
"""Synthesis, placement and routing with open tools."""
