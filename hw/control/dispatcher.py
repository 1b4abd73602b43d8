# SPDX-License-Identifier: Apache-2.0
"""Checks descriptors and hands each to its unit's queue."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.control.fetcher import fetched
from hw.descriptor import CONV, DESCRIPTOR_WORDS, FORMATS, LOAD, Opcode, Target
from hw.dma.payloads import INDEX_BITS, REPORT, TRANSFER
from hw.limits import BEAT_BITS, COUNTS, limits
from hw.payloads import descriptor_layout
from hw.presets import Preset
from hw.regmap import ErrorCode

__all__ = ["Dispatcher"]

_HEAD_WORDS = 1 + max(*(field.word for field in LOAD.fields.values()),
                      *(form.fields[name].word for form, names in COUNTS.values()
                        for name in names))
"""Words of a descriptor that are kept here; the others are looked at as they pass by."""

_COMPUTES = (Opcode.CONV, Opcode.KTV)


class Dispatcher(wiring.Component):
    """Decodes the program in order, and hands each descriptor to its unit.

    Beats for the compute unit are passed on as they come, but for the last one, which waits for
    the checks. A descriptor takes a cycle for each of its beats and four more (five, where the
    last beat holds a field that has limits). One that breaks a rule of hw.limits is reported and
    nothing is dispatched after it; the same holds when the program is exhausted before its END.
    After END nothing is dispatched.

    Parameters: ``preset``, for its limits.

    Members: ``i`` beats of descriptors; ``exhausted`` there are no more; ``o_load``, ``o_store``;
    ``o_compute`` beats; ``o_index`` the number of each descriptor given to compute, before its
    last beat; ``o_end`` the wait mask of END; ``index`` of the descriptor at hand; ``error`` a
    report, held.
    """

    def __init__(self, preset: Preset):
        self.preset = preset
        self.axi_bits = axi_bits = preset.axi_bits
        super().__init__({
            "i": In(stream.Signature(fetched(axi_bits))), "exhausted": In(1),
            "o_load": Out(stream.Signature(TRANSFER)), "o_store": Out(stream.Signature(TRANSFER)),
            "o_compute": Out(stream.Signature(axi_bits)),
            "o_index": Out(stream.Signature(INDEX_BITS)), "o_end": Out(stream.Signature(16)),
            "index": Out(INDEX_BITS), "error": Out(REPORT)})

    def _faults(self, m, words, outside):
        """Return whether each error holds of a descriptor, by its code, the first to be told
        first; ``outside``: a field broke its limit."""
        shift = exact_log2(self.axi_bits // 8)
        head = descriptor_layout(LOAD)(words)
        opcode = words[:8]
        transfer = (opcode == Opcode.LOAD) | (opcode == Opcode.STORE)
        zero = Signal()
        with m.Switch(opcode):
            for code, (form, names) in COUNTS.items():
                with m.Case(code):
                    m.d.comb += zero.eq(
                        Cat(descriptor_layout(form)(words)[name] == 0 for name in names).any())
        low = Cat(head[name][:shift] for name in ("address", "step_1", "step_2"))
        return {
            ErrorCode.BAD_OPCODE: (opcode < min(Opcode)) | (opcode > max(Opcode)),
            ErrorCode.ADDRESS_HIGH: transfer & head["address_high"].any(),
            ErrorCode.ZERO_COUNT: zero,
            ErrorCode.BAD_TARGET: (opcode == Opcode.LOAD) & (head["target"] > max(Target)),
            ErrorCode.MISALIGNED: transfer & low.any(),
            ErrorCode.BUFFER_RANGE: transfer & head["buffer"][BEAT_BITS:].any(),
            ErrorCode.FIELD_RANGE: outside,
        }

    def _outside(self, m, words, last, came):
        """Return whether a field of a CONV or KTV broke its limit, two cycles after its beat.

        ``last`` is the latest beat, ``came`` its number, one-hot, in the cycle after it was taken.
        A broken limit is never forgotten: nothing is dispatched after it.
        """
        bits = self.axi_bits
        broken = Signal(len(came))
        flags = descriptor_layout(CONV)(words).flags
        for opcode in _COMPUTES:
            is_opcode = Signal(name=f"is_{opcode.name.lower()}")
            m.d.comb += is_opcode.eq(words[:8] == opcode)
            for limit in limits(opcode, self.preset):
                field = FORMATS[opcode].fields[limit.field]
                beat, lsb = divmod(32 * field.word + field.lsb, bits)
                value = last[lsb:lsb + field.width]
                wrong = [] if limit.high is None else [value > limit.high]
                wrong += [value < limit.low] if limit.low else []
                wrong += [value[:exact_log2(limit.step)].any()] if limit.step > 1 else []
                matters = (flags & limit.only).any() if limit.only else C(1, 1)
                if limit.unless:
                    matters &= ~(flags & limit.unless).any()
                with m.If(came[beat] & is_opcode & matters & Cat(wrong).any()):
                    m.d.sync += broken[beat].eq(1)
        return broken.any()

    def _late(self):
        """Return whether the last beat of a CONV or KTV holds a field that has limits."""
        words = max(FORMATS[opcode].fields[limit.field].word
                    for opcode in _COMPUTES for limit in limits(opcode, self.preset))
        return 32 * words >= 32 * DESCRIPTOR_WORDS - self.axi_bits

    def elaborate(self, platform):
        m = Module()
        bits = self.axi_bits
        beats = -(-32 * _HEAD_WORDS // bits)
        kept = Signal(bits * beats, reset_less=True)
        words = Cat(kept, C(0, 1024 - len(kept)))
        place = Signal(32 * DESCRIPTOR_WORDS // bits, init=1)  # one-hot: the beat that comes next
        came = Signal.like(place, init=0)
        last = Signal(bits, reset_less=True)
        i = self.i.payload
        head = descriptor_layout(LOAD)(words)
        for_compute = Signal()

        for output in (self.o_load, self.o_store):
            m.d.comb += output.payload.index.eq(self.index)
            for name in TRANSFER.members:
                if name != "index":
                    m.d.comb += output.payload[name].eq(head[name])
        m.d.comb += [self.o_index.payload.eq(self.index), self.o_end.payload.eq(head["wait"])]

        faults = self._faults(m, words, self._outside(m, words, last, came))
        holds = Signal(len(faults), reset_less=True)
        fault, found, faulty = Signal(8), Signal(8), Signal()
        for number, code in reversed([*enumerate(faults)]):
            with m.If(holds[number]):
                m.d.comb += found.eq(code)
        route = Signal(4)  # one-hot: load, store, compute, end
        m.d.sync += [
            came.eq(Mux(self.i.valid & self.i.ready, place, 0)),
            holds.eq(Cat(faults.values())), fault.eq(found), faulty.eq(holds.any()),
            route.eq(Cat(words[:8] == Opcode.LOAD, words[:8] == Opcode.STORE, for_compute,
                         words[:8] == Opcode.END))]
        begun = Signal()  # the first beat has been taken
        outputs = (self.o_load, self.o_store, self.o_index, self.o_end)
        given = Signal(len(outputs))  # to the unit's queue, from a register: it is far away
        ready = Signal()
        m.d.comb += ready.eq((given & Cat(output.ready for output in outputs)).any())
        m.d.comb += [output.valid.eq(here) for output, here in zip(outputs, given, strict=True)]
        held = Signal()  # a beat that is to be passed on to compute
        m.d.comb += self.o_compute.payload.eq(last)
        with m.FSM():
            with m.State("BEATS"):
                m.d.comb += [self.o_compute.valid.eq(held & for_compute),
                             self.i.ready.eq(~self.o_compute.valid | self.o_compute.ready)]
                with m.If(self.i.ready):
                    m.d.sync += [held.eq(self.i.valid & ~i.last), last.eq(i.data)]
                for number in range(beats):  # whether it came or not: the next one overwrites it
                    with m.If(place[number]):
                        m.d.sync += kept.word_select(number, bits).eq(i.data)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += [self.index.eq(i.index), place.eq(Mux(i.last, 1, place << 1))]
                    with m.If(place[0] & ~begun):
                        m.d.sync += for_compute.eq(
                            Cat(i.data[:8] == opcode for opcode in _COMPUTES).any())
                    m.d.sync += begun.eq(~i.last)
                    with m.If(i.last):
                        m.next = "WATCH" if self._late() else "CHECK"
                with m.If(self.exhausted & ~self.i.valid):
                    m.d.sync += [self.error.code.eq(ErrorCode.NO_END),
                                 self.error.index.eq(i.index)]
                    m.next = "STOP"
            with m.State("WATCH"):
                m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.sync += given.eq(Mux(holds.any(), 0, route))
                m.next = "ROUTE"
            with m.State("ROUTE"):
                with m.If(faulty):
                    m.d.sync += [self.error.code.eq(fault), self.error.index.eq(self.index),
                                 self.error.layer.eq(head["layer"])]
                    m.next = "STOP"
                with m.Else(), m.If(ready):
                    m.d.sync += given.eq(0)
                    m.next = "BEATS"
                    with m.If(route[2]):
                        m.next = "LAST-BEAT"
                    with m.If(route[3]):
                        m.next = "STOP"
            with m.State("LAST-BEAT"):
                m.d.comb += self.o_compute.valid.eq(1)
                with m.If(self.o_compute.ready):
                    m.next = "BEATS"
            with m.State("STOP"):
                pass
        return m
