# SPDX-License-Identifier: Apache-2.0
"""Faults planted in programs, memory, bus and hardware, and the proof that each is named."""
