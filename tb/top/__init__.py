# SPDX-License-Identifier: Apache-2.0
"""The whole accelerator: Verilated model, driver and compiler against the golden model."""
