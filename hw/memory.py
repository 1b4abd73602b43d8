# SPDX-License-Identifier: Apache-2.0
"""Memories that become block RAM."""

from amaranth import *
from amaranth.lib.memory import Memory

__all__ = ["block_memory", "block_read"]


def block_memory(m, name, width, depth):
    """Add a memory of ``depth`` rows of ``width`` bits to ``m``, and return it.

    A row that is read in the cycle in which it is written reads as anything (``no_rw_check``):
    whoever uses it must not care. That lets one port of a true dual-port block RAM both read and
    write, where the two never happen in one cycle and share an address.
    """
    memory = Memory(shape=unsigned(width), depth=depth, init=[], attrs={"no_rw_check": 1})
    m.submodules[name] = memory
    return memory


def block_read(m, memory, name, address, enable=1):
    """Return the row at ``address``, one cycle later; it holds while ``enable`` is 0.

    The register is written out, so that synthesis merges it into the block RAM with the freedom of
    ``no_rw_check``, which Amaranth's synchronous read ports don't pass on.
    """
    port = memory.read_port(domain="comb")
    data = Signal(len(port.data), name=name, reset_less=True)
    m.d.comb += port.addr.eq(address)
    with m.If(enable):
        m.d.sync += data.eq(port.data)
    return data
