# SPDX-License-Identifier: Apache-2.0
"""Control: descriptors, semaphores, registers, errors and the interrupt."""
