# SPDX-License-Identifier: Apache-2.0
"""Descriptors of the compute unit: their arrival, start and end."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.descriptor import CONV, DESCRIPTOR_WORDS, Flag, Opcode
from hw.payloads import descriptor_layout
from hw.presets import Preset

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Holds two descriptors, the *contexts*: one that starts, and the one before it.

    A descriptor is taken beat by beat into the context that is free, asks for its semaphores
    (``request``), and after the ``grant`` starts as soon as it may: a CONV when the walk of the one
    before is over, or, with FENCE, or where only one of the two is PAIRED, when that has ended; a
    KTV when nothing is under way. So the beats of a descriptor arrive while the one before is at
    work. Descriptors end in order.

    Members
    -------
    i_beat : beats of descriptors
    request, wait, grant : Out, Out, In
        ``wait`` is the mask of semaphores, ``grant`` a strobe.
    descriptors : Out
        The contexts; one holds from before its start to its end.
    conv_start, count_start, context : Out
        Strobes, and the context meant, which holds until the next one.
    started : Out
        The descriptor of the last start, from a register of its own.
    layer : Out
        Layer of the last descriptor that began.
    walking, counting : In
        Of the last start: pixels are still to come / the KTV has not ended; from the strobe on.
    active : In
        Per context: windows are still being read.
    unit_valid, unit_context, finished, finished_context : In
        A result is to come, has been written.
    done_valid, done_post : Out
        A descriptor ended; the semaphores to raise.
    idle : Out
        Nothing is here.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        super().__init__({
            "i_beat": In(stream.Signature(preset.axi_bits)),
            "request": Out(1), "wait": Out(16), "grant": In(1),
            "descriptors": Out(32 * DESCRIPTOR_WORDS).array(2),
            "conv_start": Out(1), "count_start": Out(1), "context": Out(1), "layer": Out(16),
            "started": Out(32 * DESCRIPTOR_WORDS),
            "walking": In(1), "counting": In(1), "active": In(2),
            "unit_valid": In(1), "unit_context": In(1),
            "finished": In(1), "finished_context": In(1),
            "done_valid": Out(1), "done_post": Out(16), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        bits = self._preset.axi_bits
        beats = 32 * DESCRIPTOR_WORDS // bits
        contexts = [Signal(32 * DESCRIPTOR_WORDS, name=f"context_{n}", reset_less=True)
                    for n in range(2)]
        views = [descriptor_layout(CONV)(context) for context in contexts]
        used = Signal(2)  # from the start to the end
        slot, oldest = Signal(), Signal()
        m.d.comb += [self.descriptors[n].eq(context) for n, context in enumerate(contexts)]

        # arrival
        beat = Signal(beats, init=1)  # one-hot
        loaded, granted = Signal(), Signal()
        ready, take, last = Signal(), Signal(), Signal()
        arrived = Signal()  # the last beat is being written
        m.d.comb += [self.i_beat.ready.eq(ready), take.eq(self.i_beat.valid & ready),
                     last.eq(take & beat[-1])]
        m.d.sync += [
            ready.eq(~loaded & ~arrived & ~Mux(slot, used[1], used[0]) & ~last),
            arrived.eq(last)]
        with m.If(take):
            m.d.sync += beat.eq(beat.rotate_left(1))
        with m.If(arrived):
            m.d.sync += loaded.eq(1)
        # contexts lie all over the device: written from registers
        content = Signal(bits, reset_less=True)
        m.d.sync += content.eq(self.i_beat.payload)
        for index, context in enumerate(contexts):
            places = Signal(beats, name=f"places_{index}")
            m.d.sync += places.eq(Mux(take & (slot == index), beat, 0))
            for number in range(beats):
                with m.If(places[number]):
                    m.d.sync += context.word_select(number, bits).eq(content)

        # semaphores
        m.d.comb += [self.request.eq(loaded & ~granted),
                     self.wait.eq(Mux(slot, views[1]["wait"], views[0]["wait"]))]
        with m.If(self.grant):
            m.d.sync += granted.eq(1)

        # start
        flags = Mux(slot, views[1].flags, views[0].flags)
        opcode = Mux(slot, views[1].opcode, views[0].opcode)
        is_conv, fence, pairs = (Signal(name=name) for name in ("is_conv", "fence", "pairs"))
        m.d.sync += [is_conv.eq(opcode == Opcode.CONV),  # at hand before the grant is
                     fence.eq(flags[exact_log2(int(Flag.FENCE))]),
                     pairs.eq(flags[exact_log2(int(Flag.PAIRED))])]
        paired = Signal()  # the last CONV was
        fenced = Signal()  # nothing else may be under way
        begun = Signal()
        counts = Signal(2)  # the context is a KTV
        under_way = Signal()  # the last start is
        started = Signal(32 * DESCRIPTOR_WORDS, reset_less=True)
        # it is there before its start: what may start next is known while nothing is under way
        with m.If(~under_way):
            m.d.sync += started.eq(Mux(slot, contexts[1], contexts[0]))
        m.d.comb += [
            fenced.eq(~is_conv | fence | (pairs != paired)),
            under_way.eq(Cat(self.conv_start, self.walking, self.count_start,
                             self.counting).any()),
            begun.eq(granted & ~under_way & (~fenced | (used == 0))),
            self.started.eq(started),
        ]
        m.d.sync += [self.conv_start.eq(begun & is_conv), self.count_start.eq(begun & ~is_conv)]
        with m.If(begun):
            m.d.sync += [paired.eq(pairs), self.context.eq(slot), slot.eq(~slot),
                         loaded.eq(0), granted.eq(0),
                         self.layer.eq(Mux(slot, views[1].layer, views[0].layer))]
            for index in range(2):
                with m.If(slot == index):
                    m.d.sync += [used[index].eq(1), counts[index].eq(~is_conv)]

        # end
        ended = Signal()  # a cycle behind what it follows from
        m.d.sync += ended.eq(0)
        units = [Signal(16, name=f"units_{n}") for n in range(2)]
        for index in range(2):
            m.d.sync += units[index].eq(
                units[index] + (self.unit_valid & (self.unit_context == index))
                - (self.finished & (self.finished_context == index)))
            newest = self.context == index
            starting = (self.conv_start | self.count_start | self.walking | self.counting) & newest
            with m.If((oldest == index) & used[index]):
                m.d.sync += ended.eq(~ended & ~starting & (
                    (units[index] == 0) & ~self.active[index] | counts[index]))
                with m.If(ended):
                    m.d.sync += [used[index].eq(0), oldest.eq(~oldest)]
        m.d.sync += [self.done_valid.eq(ended),
                     self.done_post.eq(Mux(oldest, views[1].post, views[0].post))]
        m.d.comb += self.idle.eq((used == 0) & ~loaded & ~arrived & beat[0] & ~self.i_beat.valid)
        return m
