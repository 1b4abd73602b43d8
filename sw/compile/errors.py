# SPDX-License-Identifier: Apache-2.0
"""The error of the compiler."""

from sw.errors import AddendError

__all__ = ["CompileError"]


class CompileError(AddendError):
    """A layer cannot be mapped onto a preset; the message names the layer and the bound."""
