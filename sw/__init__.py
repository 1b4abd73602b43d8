# SPDX-License-Identifier: Apache-2.0
"""The host side: models, quantiser, golden model, compiler and driver. Imports without Amaranth."""
