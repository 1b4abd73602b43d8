# SPDX-License-Identifier: Apache-2.0
"""Training of the small CIFAR-10 network and conversion of its data."""
