# SPDX-License-Identifier: Apache-2.0
"""Tags of the results under way, in order for each group."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.mux import select
from hw.payloads import TagLayout
from hw.presets import Preset

__all__ = ["TAG_DEPTH", "TagStore"]

TAG_DEPTH = 8
"""Results of a group between the start of its window reads and the end of its epilogue."""


class TagStore(wiring.Component):
    """One queue of TAG_DEPTH tags for each group, all in one memory.

    Who pushes sees to it that no queue overflows.

    Members
    -------
    push_valid, push_group, push : In
        A tag is visible 2 cycles later.
    group, tag : In, Out
        The oldest tag of a group, a cycle later.
    pop : In, one bit a group
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "push_valid": In(1),
            "push_group": In(range(preset.groups)),
            "push": In(TagLayout(preset)),
            "group": In(range(preset.groups)),
            "tag": Out(TagLayout(preset)),
            "pop": In(preset.groups),
        })

    def elaborate(self, platform):
        m = Module()
        groups, bits = self._preset.groups, exact_log2(TAG_DEPTH)
        m.submodules.memory = memory = Memory(
            shape=TagLayout(self._preset), depth=TAG_DEPTH << len(self.group), init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        heads = [Signal(bits, name=f"head_{n}") for n in range(groups)]
        tails = [Signal(bits, name=f"tail_{n}") for n in range(groups)]
        # the memory is written, and read, from registers
        valid = Signal()
        row = Signal(len(write.addr), name="tail", reset_less=True)
        tag = Signal(TagLayout(self._preset), name="pushed", reset_less=True)
        m.d.sync += [
            valid.eq(self.push_valid), tag.eq(self.push),
            row.eq(Cat(select(self.push_group, tails), self.push_group)),
            read.addr.eq(Cat(select(self.group, heads), self.group)),
        ]
        m.d.comb += [write.en.eq(valid), write.data.eq(tag), write.addr.eq(row),
                     self.tag.eq(read.data)]
        for group in range(groups):
            pushed = self.push_valid & (self.push_group == group)
            m.d.sync += [heads[group].eq(heads[group] + self.pop[group]),
                         tails[group].eq(tails[group] + pushed)]
        return m
