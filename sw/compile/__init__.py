# SPDX-License-Identifier: Apache-2.0
"""From an integer model to a memory image and a program for one preset."""
