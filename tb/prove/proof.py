# SPDX-License-Identifier: Apache-2.0
"""Proofs and the bugs that must break them."""

import dataclasses
import inspect
import linecache
import sys
import types
from collections.abc import Callable

from tb.prove.properties import Properties

__all__ = ["Bug", "Proof", "StaleBugError", "edited", "proof"]


class StaleBugError(LookupError):
    """The text that a bug changes is not in the source, or is there more than once."""


@dataclasses.dataclass(frozen=True)
class Bug:
    """A change of the block's source that makes it wrong."""

    text: str
    old: str
    new: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proof:
    """What is proved of a block (a component), by induction over ``k`` cycles."""

    name: str
    block: type
    write: Callable[[Properties, type], None]
    bugs: tuple[Bug, ...]
    k: int
    reach: int
    """Cycles within which everything that a cover demands happens, and a bug shows."""
    resets: bool
    flat_memory: bool
    small: dict[str, int]
    """Constants of the block's module that are smaller here, so that a proof takes seconds."""

    def properties(self, bug: Bug | None = None) -> Properties:
        """Return the block, or the block with a bug, and its properties."""
        result = Properties(self.name, self.resets, invariants=bug is None)
        block = self.block
        if bug or self.small:
            block = edited(self.block, bug, self.small)
        self.write(result, block)
        return result

    @property
    def claim(self) -> str:
        """What it claims, in a sentence."""
        return inspect.cleandoc(self.write.__doc__)


def proof(block: type, *, bugs: list[Bug], k: int = 1, reach: int = 16, resets: bool = True,
          flat_memory: bool = True, small: dict[str, int] | None = None,
          ) -> Callable[[Callable[[Properties, type], None]], Proof]:
    """Make a function that adds a block and its properties a proof of the function's name."""
    def make(write: Callable[[Properties, type], None]) -> Proof:
        return Proof(name=write.__name__.strip("_"), block=block, write=write, bugs=tuple(bugs),
                     k=k, reach=reach, resets=resets, flat_memory=flat_memory,
                     small=small or {})
    return make


def edited(block: type, bug: Bug | None = None, small: dict[str, int] | None = None) -> type:
    """Return the class as it would be with the bug in its file, and with other constants."""
    module = sys.modules[block.__module__]
    source, name = inspect.getsource(module), module.__name__
    if bug:
        count = source.count(bug.old)
        if count != 1:
            raise StaleBugError(f"{name}: the bug '{bug.text}' is stale: its text is there "
                                f"{count} times, not once: {bug.old!r}")
        source, name = source.replace(bug.old, bug.new), f"{name}, with the bug '{bug.text}'"
    copy = types.ModuleType(module.__name__)
    copy.__file__ = f"<{name}>"
    linecache.cache[copy.__file__] = (len(source), None, source.splitlines(True), copy.__file__)
    exec(compile(source, copy.__file__, "exec"), copy.__dict__)
    for constant, value in (small or {}).items():
        if not hasattr(copy, constant):
            raise StaleBugError(f"{module.__name__} has no constant {constant}")
        setattr(copy, constant, value)
    return getattr(copy, block.__name__)
