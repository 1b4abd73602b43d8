# SPDX-License-Identifier: Apache-2.0
"""Quick conversion of large memories.

Amaranth 0.5 turns every bit of a memory's initial content into a Python object when it writes
RTLIL: a few megabits take half a minute and a gigabyte. While ``fast_memories()`` is active,
memories that start as zero get no initial content (it is undefined in Verilog, zero in
Verilator), and others get theirs as one constant.
"""

import contextlib

from amaranth.back import rtlil

__all__ = ["fast_memories"]


@contextlib.contextmanager
def fast_memories():
    """Make ``amaranth.back`` convert memories quickly inside the ``with`` block."""

    def emit_memory(emitter, index, memory):
        if all(row == 0 for row in memory.init):
            return
        width = memory.width
        content = "".join(f"{row % (1 << width):0{width}b}" for row in reversed(memory.init))
        emitter.builder.cell(
            "$meminit_v2",
            ports={"ADDR": emitter.sigspec(), "DATA": f"{len(content)}'{content}",
                   "EN": f"{width}'{'1' * width}"},
            parameters={"MEMID": emitter.memories[index].memid, "ABITS": 0, "WIDTH": width,
                        "WORDS": memory.depth, "PRIORITY": 0},
            src_loc=memory.src_loc)

    original = rtlil.ModuleEmitter.emit_memory
    rtlil.ModuleEmitter.emit_memory = emit_memory
    try:
        yield
    finally:
        rtlil.ModuleEmitter.emit_memory = original
