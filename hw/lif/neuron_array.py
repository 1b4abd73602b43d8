# SPDX-License-Identifier: Apache-2.0
"""LIF neurons, a few channels at a time, with their membranes."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.presets import Preset

__all__ = ["NeuronArray"]


class NeuronArray(wiring.Component):
    """``epilogue_lanes`` leaky integrate-and-fire neurons, tau 2, hard reset.

    With g = ``guard_bits`` and v = 0 where ``first``::

        u = v + x * 2**g;  spike = u >= threshold * 2**g;  v = 0 if spike else floor(u / 2)

    Exact: no saturation, and no rounding for up to g + 1 time steps. The membranes lie in memory
    at ``address``.

    **Latency** 2 cycles while ``enable``; **throughput** one set of lanes a cycle; the
    same address may follow itself.

    Members
    -------
    enable : In
        The pipeline moves.
    valid, first, address, current, threshold : In
        ``current`` and ``threshold``: ``sum_width`` bits signed a lane, the same unit.
    spikes : Out
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        lanes = preset.epilogue_lanes
        self._slots = preset.groups * preset.beats_per_tile
        super().__init__({
            "enable": In(1),
            "valid": In(1),
            "first": In(1),
            "address": In(range(self._slots)),
            "current": In(signed(preset.sum_width)).array(lanes),
            "threshold": In(signed(preset.sum_width)).array(lanes),
            "spikes": Out(lanes),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        guard, width = preset.guard_bits, preset.sum_width + preset.guard_bits + 1
        lanes = preset.epilogue_lanes
        memory = Memory(shape=unsigned(width * lanes), depth=self._slots, init=[])
        m.submodules.membranes = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")

        valid, first = Signal(), Signal()
        address = Signal.like(self.address)
        with m.If(self.enable):
            m.d.sync += [valid.eq(self.valid), first.eq(self.first), address.eq(self.address)]
        m.d.comb += [write.addr.eq(address), write.en.eq(valid & self.enable),
                     read.addr.eq(address)]
        for lane in range(lanes):
            current = Signal(signed(preset.sum_width), name=f"current_{lane}")
            margin = Signal(signed(preset.sum_width + 1), name=f"margin_{lane}")
            membrane = Signal(signed(width), name=f"membrane_{lane}")
            raised = Signal(signed(width + 1), name=f"raised_{lane}")
            spike = Signal(name=f"spike_{lane}")
            with m.If(self.enable):
                m.d.sync += [current.eq(self.current[lane]),
                             margin.eq(self.threshold[lane] - self.current[lane])]
                m.d.sync += self.spikes[lane].eq(spike)
            bits = slice(width * lane, width * (lane + 1))
            m.d.comb += [
                membrane.eq(Mux(first, 0, read.data[bits])),
                raised.eq(membrane + (current << guard)),
                spike.eq(membrane >= (margin << guard)),
                write.data[bits].eq(Mux(spike, 0, raised >> 1)),
            ]
        return m
