# SPDX-License-Identifier: Apache-2.0
"""The Verilated model of the accelerator, as a transport for the driver."""
