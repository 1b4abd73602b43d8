# SPDX-License-Identifier: Apache-2.0
"""The errors that Addend raises on bad input, one type for each kind."""

__all__ = ["AddendError", "ModelFileError", "OverflowBoundError", "QuantiseError"]


class AddendError(Exception):
    """Base of every error caused by input, as opposed to a defect of the program."""


class ModelFileError(AddendError):
    """A model file is damaged, of another format, or breaks a rule of docs/model-format.md."""


class QuantiseError(AddendError):
    """A float network cannot be brought to an integer model within the number bounds."""


class OverflowBoundError(AddendError):
    """A number left its width while a network was evaluated (never silently saturated)."""
