# SPDX-License-Identifier: Apache-2.0
"""From a float checkpoint to an integer model: folding, calibration, quantisation."""
