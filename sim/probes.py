# SPDX-License-Identifier: Apache-2.0
"""The accelerator with probes: what each group does in each cycle, for the Verilated model alone.

Components that are elaborated show some of their signals to a ``Probes``, which sorts the state of
each group into one of `STATES` and counts, cycle by cycle; the harness (sim/harness.cpp) adds up
per descriptor. What is exported for synthesis has none of this.

A group adds where a token with an addition enters its lanes. Else the state is the first of these
that holds: its weights are being written (``hold``), its result is not taken (``result``), it
works without adding: an empty unit, a further doubling, the first words of a unit (``change``).
With nothing inside, it is ``reads`` if units of it are to come or pixels are still to be given
out; else nothing is to be had, and the reason is the sequencer's: a KTV (``counts``), a descriptor
whose semaphores are down, for it waits for a LOAD of weights (``weights``), of other data
(``memory``) or for a STORE (``store``); no descriptor at all (``fetch``); or the tail of the CONV
at work, its last pixels of other groups and its epilogue (``drain``).
"""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.control.counters import Counters
from hw.conv.engine import ConvEngine
from hw.conv.group import Group
from hw.descriptor import Target
from hw.dma.load import Load
from hw.dma.store import Store
from hw.generate import TOP, convert
from hw.presets import Preset, get_preset
from hw.sequencer import Sequencer
from hw.top import Accelerator
from sim.elaboration import elaborating

__all__ = ["EVENTS", "STATES", "WORDS", "ProbedAccelerator", "generate"]

STATES = ("adds of context 0", "adds of context 1", "hold", "result", "change", "reads", "counts",
          "weights", "memory", "store", "fetch", "drain")
"""What a group does in a cycle; one byte each at the ports ``probe_N``, four to a port."""
WORDS = len(STATES) // 4
EVENTS = ("load begins", "load ends", "store begins", "store ends", "compute begins",
          "walk ends", "compute ends", "context", "running", "clear")
"""Bits of ``probe_events``: strobes, the context of a ``compute begins``, whether a run's cycles
are counted, and that counting begins anew."""
_LOADED, _STORED = 0, 3  # semaphores of the compiler: LOAD and STORE to the compute unit


class Probes:
    """Signals that the probed components drive, and what is made of them."""

    def __init__(self, preset: Preset) -> None:
        groups = preset.groups
        self.states = [Signal(4, name=f"probe_state_{n}") for n in range(groups)]
        self.inside = Signal(groups)
        """Something is inside the group: the queue of entries, the scanner, or a token."""
        self.enable, self.hold = Signal(groups), Signal(groups)
        self.adds, self.ends = Signal(groups), Signal(groups)
        self.context = Signal(groups)
        self.tagged = Signal(groups)
        self.walking, self.request, self.waits = Signal(), Signal(), Signal(16)
        self.counting, self.absent, self.loading = Signal(), Signal(), Signal()
        self.weights = Signal()
        self.events = Signal(len(EVENTS))
        self._groups = 0

    def tap(self, component: object, m: Module) -> None:
        """Connect a component that was elaborated into `m`."""
        if isinstance(component, Group):
            number, self._groups = self._groups, self._groups + 1
            scanner, lanes = m.submodules.scanner, m.submodules.lanes
            m.d.comb += [
                self.inside[number].eq(scanner.i_valid | scanner.busy | lanes.i_valid),
                self.enable[number].eq(lanes.enable),
                self.adds[number].eq(lanes.i_valid & lanes.i.add),
                self.ends[number].eq(lanes.i_valid & lanes.i.end & lanes.enable),
                self.context[number].eq(lanes.i.context)]
            m.d.sync += self.hold[number].eq(lanes.hold)  # which is for the next cycle
        elif isinstance(component, Counters):
            busy = Signal()
            m.d.sync += busy.eq(component.busy)  # as the counter of cycles sees it
            m.d.comb += self.events[8:10].eq(Cat(busy, component.clear))
        elif isinstance(component, ConvEngine):
            reader = m.submodules.reader
            m.d.comb += [self.tagged.eq(Mux(reader.tag_valid, 1 << reader.tag_group, 0)),
                         self.walking.eq(component.walking)]
        elif isinstance(component, Sequencer):
            m.d.comb += [
                self.request.eq(component.request), self.waits.eq(component.wait),
                self.counting.eq(component.counting | component.count_start),
                self.absent.eq(component.idle),
                self.events[4].eq(component.conv_start | component.count_start),
                self.events[6].eq(component.done_valid), self.events[7].eq(component.context)]
            walked = Signal()
            m.d.sync += walked.eq(component.walking)
            m.d.comb += self.events[5].eq(walked & ~component.walking)
        elif isinstance(component, Load | Store):
            first = 0 if isinstance(component, Load) else 2
            owner = m.submodules.walker.o_owner
            m.d.comb += [self.events[first].eq(component.i.valid & component.i.ready),
                         self.events[first + 1].eq(owner.valid & owner.ready)]
            if first == 0:
                m.d.comb += [self.loading.eq(~component.idle),
                             self.weights.eq(owner.payload.target == Target.WEIGHT)]

    def sort(self, m: Module) -> list[Signal]:
        """Add to `m` the state of each group; returns the number of groups in each state."""
        state = {name: number for number, name in enumerate(STATES)}
        absent = Signal(4)
        missing_load = self.waits[_LOADED] & (self.loading | ~self.waits[_STORED])
        m.d.comb += absent.eq(Mux(
            self.counting, state["counts"], Mux(
                self.request, Mux(missing_load, Mux(self.weights & self.loading, state["weights"],
                                                    state["memory"]),
                                  Mux(self.waits[_STORED], state["store"], state["drain"])),
                Mux(self.absent, state["fetch"], state["drain"]))))
        for number, found in enumerate(self.states):
            due = Signal(8, name=f"probe_due_{number}")  # units whose last token is to come
            m.d.sync += due.eq(Mux(self.absent, 0,
                                   due + self.tagged[number] - self.ends[number]))
            with m.If(self.hold[number]):
                m.d.comb += found.eq(state["hold"])
            with m.Elif(~self.enable[number]):
                m.d.comb += found.eq(state["result"])
            with m.Elif(self.adds[number]):
                m.d.comb += found.eq(self.context[number])
            with m.Elif(self.inside[number]):
                m.d.comb += found.eq(state["change"])
            with m.Elif((due != 0) | self.walking):
                m.d.comb += found.eq(state["reads"])
            with m.Else():
                m.d.comb += found.eq(absent)
        counts = []
        for number in range(len(STATES)):
            count = Signal(8, name=f"probe_count_{number}")
            m.d.comb += count.eq(sum(found == number for found in self.states))
            counts.append(count)
        return counts


class ProbedAccelerator(wiring.Component):
    """The accelerator in a shell with the ports ``probe_N`` and ``probe_events``.

    Elaborate it in ``elaborating(probes.tap)``.
    """

    def __init__(self, preset: Preset) -> None:
        self.inner, self.probes = Accelerator(preset), Probes(preset)
        super().__init__(dict(self.inner.signature.members.items())
                         | {f"probe_{number}": Out(32) for number in range(WORDS)}
                         | {"probe_events": Out(len(EVENTS))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = self.inner
        for name, member in self.inner.signature.members.items():
            outside, inside = getattr(self, name), getattr(self.inner, name)
            m.d.comb += (outside.eq(inside) if member.flow is Out else inside.eq(outside))
        counts = Cat(self.probes.sort(m))
        for number in range(WORDS):
            m.d.sync += getattr(self, f"probe_{number}").eq(counts.word_select(number, 32))
        m.d.sync += self.probe_events.eq(self.probes.events)
        return m


def generate(preset_name: str) -> str:
    """Return the Verilog of the accelerator with probes."""
    top = ProbedAccelerator(get_preset(preset_name))
    with elaborating(top.probes.tap):
        return convert(TOP, top)
