# SPDX-License-Identifier: Apache-2.0
"""Proofs by k-induction that the handshake blocks do what their datasheets say."""
