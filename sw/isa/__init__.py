# SPDX-License-Identifier: Apache-2.0
"""Functional simulator of programs: what descriptors mean, without cycles."""
