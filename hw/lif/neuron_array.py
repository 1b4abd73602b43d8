# SPDX-License-Identifier: Apache-2.0
"""LIF neurons, their membranes on chip."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.presets import Preset

__all__ = ["NeuronArray"]


class NeuronArray(wiring.Component):
    """``epilogue_lanes`` leaky integrate-and-fire neurons, tau = 2, hard reset.

    ``u = v + current``, ``spike = u >= threshold``, ``v = spike ? 0 : floor(u / 2)``, and v = 0
    before the step marked ``first``; no saturation. The spikes are those of
    ``sw.golden.lif.lif_step``, whose membranes have fraction bits: as current and threshold have
    none, and floor(floor(u) / 2) = floor(u / 2), no spike ever depends on these. The membranes
    lie in memory at ``address``.

    **Latency** 2 cycles to ``spikes``, which are combinational from then on; **throughput** one
    set of lanes a cycle. The same address may follow itself after 4 cycles.

    Members
    -------
    valid, first, address, current : In
        ``current``: ``sum_width`` bits signed a lane.
    threshold : In
        The same unit, 2 cycles later.
    spikes : Out
        2 cycles later.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        lanes = preset.epilogue_lanes
        self._slots = preset.groups * preset.beats_per_tile
        super().__init__({
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
        width = preset.sum_width + 1
        lanes = preset.epilogue_lanes
        memory = Memory(shape=unsigned(width * lanes), depth=self._slots, init=[],
                        attrs={"ram_style": "block"} if preset.wide_luts else {})
        m.submodules.membranes = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        valid = Signal(3)
        address = [Signal.like(self.address, name=f"address_s{n}", reset_less=True)
                   for n in range(3)]
        m.d.comb += [read.addr.eq(self.address), write.addr.eq(address[2]),
                     write.en.eq(valid[2])]
        m.d.sync += [valid.eq(Cat(self.valid, valid[:-1])), address[0].eq(self.address),
                     address[1].eq(address[0]), address[2].eq(address[1])]
        for lane in range(lanes):
            def register(name, shape, lane=lane):
                return Signal(shape, name=f"{name}_{lane}", reset_less=True)

            bits = slice(width * lane, width * (lane + 1))
            # s1: membrane and current; s2: u; s3: the new membrane
            membrane = register("membrane", signed(width))
            current = register("current", signed(preset.sum_width))
            raised = register("raised", signed(width + 1))
            halved = register("halved", signed(width))
            spike = Signal(name=f"spike_{lane}")
            m.d.sync += [
                membrane.eq(Mux(self.first, 0, read.data[bits])),
                current.eq(self.current[lane]),
                raised.eq(membrane + current), halved.eq(Mux(spike, 0, raised[1:])),
            ]
            m.d.comb += [spike.eq(raised >= self.threshold[lane]), self.spikes[lane].eq(spike),
                         write.data[bits].eq(halved)]
        return m
