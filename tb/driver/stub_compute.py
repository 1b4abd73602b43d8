# SPDX-License-Identifier: Apache-2.0
"""A compute unit that only moves data, to test everything around it."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.descriptor import CONV, KTV, Opcode
from hw.generate import generate
from hw.payloads import descriptor_layout

__all__ = ["FAIL_LAYER", "StubCompute", "generate_stub"]

FAIL_LAYER = 0xEE
"""A CONV of this layer reports a residual overflow."""

HANG_LAYER = 0xDD
"""A CONV of this layer never ends."""


class StubCompute(wiring.Component):
    """Has the members of hw.compute.Compute.

    What is loaded into beat b of any buffer can be stored from beat b of the output buffer. A
    CONV or KTV ends after ``columns`` cycles, each with one addition; FAIL_LAYER and HANG_LAYER do
    otherwise. Every eighth beat or so has to wait.
    """

    def __init__(self, preset):
        self.preset = preset
        super().__init__({
            "load_valid": In(1), "load_target": In(2), "load_beat": In(24),
            "load_data": In(preset.axi_bits), "load_ready": Out(1),
            "store_beat": In(24), "store_enable": In(1), "store_data": Out(preset.axi_bits),
            "i_beat": In(stream.Signature(preset.axi_bits)), "request": Out(1), "wait": Out(16),
            "grant": In(1), "layer": Out(16), "done_valid": Out(1),
            "done_post": Out(16), "error": Out(4), "error_layer": Out(16),
            "count_additions": Out(16), "count_skipped": Out(8), "stall_cause": Out(8),
            "idle": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=self.preset.axi_bits, depth=self.preset.out_beats, init=[])
        write, read = memory.write_port(), memory.read_port()
        noise = Signal(16, init=1)
        m.d.sync += noise.eq(Cat(noise[15] ^ noise[13] ^ noise[12] ^ noise[10], noise))
        m.d.comb += [
            self.load_ready.eq(noise[:3] != 0),
            write.en.eq(self.load_valid & self.load_ready), write.addr.eq(self.load_beat),
            write.data.eq(self.load_data), read.addr.eq(self.store_beat),
            read.en.eq(self.store_enable),
        ]
        late = Signal.like(self.store_data)
        m.d.sync += [late.eq(read.data), self.store_data.eq(late)]

        # beats are shifted in from the top; then the semaphores; then the cycles
        bits = self.preset.axi_bits
        words = Signal(1024)
        head, counts = (descriptor_layout(form)(words) for form in (CONV, KTV))
        left, beats = Signal(16), Signal(range(1024 // bits + 1))
        counting = Signal()
        hangs = head.layer == HANG_LAYER
        m.d.comb += [
            self.i_beat.ready.eq(beats != 1024 // bits), self.wait.eq(head.wait),
            self.request.eq((beats == 1024 // bits) & ~counting), self.done_post.eq(head.post),
            self.count_additions.eq(counting & ~hangs), self.idle.eq(beats == 0),
        ]
        m.d.sync += self.done_valid.eq(0)
        with m.If(self.i_beat.valid & self.i_beat.ready):
            m.d.sync += [words.eq(Cat(words[bits:], self.i_beat.payload)), beats.eq(beats + 1)]
        with m.If(self.grant):
            m.d.sync += [counting.eq(1), self.layer.eq(head.layer),
                         left.eq(Mux(head.opcode == Opcode.KTV, counts.columns, head.columns))]
        with m.Elif(counting & ~hangs):
            m.d.sync += left.eq(left - 1)
            with m.If(left == 1):
                m.d.sync += [counting.eq(0), beats.eq(0), self.done_valid.eq(1)]
                with m.If(head.layer == FAIL_LAYER):
                    m.d.sync += [self.done_valid.eq(0), self.error.eq(1),
                                 self.error_layer.eq(head.layer)]
        return m


def generate_stub(preset_name):
    """Return the Verilog of an accelerator around the stub."""
    return generate(preset_name, StubCompute)
