# SPDX-License-Identifier: Apache-2.0
"""Checks descriptors and hands each to its unit's queue."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.control.fetcher import FETCHED
from hw.descriptor import CONV, KTV, LOAD, STORE, Opcode, Target
from hw.dma.payloads import BEAT_BITS, REPORT, TRANSFER
from hw.payloads import descriptor_layout
from hw.regmap import ErrorCode

__all__ = ["Dispatcher"]

_COUNTS = {
    Opcode.LOAD: (LOAD, ("length", "count_1", "count_2", "beat_step")),
    Opcode.STORE: (STORE, ("length", "count_1", "count_2", "beat_step")),
    Opcode.CONV: (CONV, ("time_steps", "repeat", "columns", "rows", "images")),
    Opcode.KTV: (KTV, ("time_steps", "columns", "rows")),
}
"""Counts that must be at least 1."""


class Dispatcher(wiring.Component):
    """Decodes the program in order.

    Two cycles a descriptor. A malformed one is reported and nothing is dispatched after it;
    the same holds when the program is exhausted before its END. After END nothing is dispatched.

    Parameters: ``axi_bits``, the alignment of addresses.

    Members: ``i`` descriptors; ``exhausted`` there are no more; ``o_load``, ``o_store``,
    ``o_compute``; ``o_end`` the wait mask of END; ``error`` a report, held.
    """

    def __init__(self, axi_bits):
        self.axi_bits = axi_bits
        super().__init__({
            "i": In(stream.Signature(FETCHED)), "exhausted": In(1),
            "o_load": Out(stream.Signature(TRANSFER)), "o_store": Out(stream.Signature(TRANSFER)),
            "o_compute": Out(stream.Signature(FETCHED)), "o_end": Out(stream.Signature(16)),
            "error": Out(REPORT)})

    def _fault(self, m):
        """Return the error code of the descriptor at the input."""
        words = self.i.payload.data
        shift = exact_log2(self.axi_bits // 8)
        head = descriptor_layout(LOAD)(words)
        opcode = words[:8]
        transfer = (opcode == Opcode.LOAD) | (opcode == Opcode.STORE)
        zero = Signal()
        with m.Switch(opcode):
            for code, (form, names) in _COUNTS.items():
                with m.Case(code):
                    m.d.comb += zero.eq(
                        Cat(descriptor_layout(form)(words)[name] == 0 for name in names).any())
        low = Cat(head[name][:shift] for name in ("address", "step_1", "step_2"))
        faults = (
            (ErrorCode.BAD_OPCODE, (opcode < min(Opcode)) | (opcode > max(Opcode))),
            (ErrorCode.ADDRESS_HIGH, transfer & head["address_high"].any()),
            (ErrorCode.ZERO_COUNT, zero),
            (ErrorCode.BAD_TARGET,
             (opcode == Opcode.LOAD) & (head["target"] > max(Target))),
            (ErrorCode.MISALIGNED, transfer & low.any()),
            (ErrorCode.BUFFER_RANGE, transfer & head["buffer"][BEAT_BITS:].any()),
        )
        fault = C(0, 8)
        for code, holds in reversed(faults):
            fault = Mux(holds, code, fault)
        return fault

    def elaborate(self, platform):
        m = Module()
        words, index = self.i.payload.data, self.i.payload.index
        head = descriptor_layout(LOAD)(words)
        opcode = words[:8]

        for output in (self.o_load, self.o_store):
            m.d.comb += output.payload.index.eq(index)
            for name in TRANSFER.members:
                if name != "index":
                    m.d.comb += output.payload[name].eq(head[name])
        m.d.comb += [self.o_compute.payload.eq(self.i.payload),
                     self.o_end.payload.eq(head["wait"])]

        fault = Signal(8)
        m.d.sync += fault.eq(self._fault(m))
        with m.FSM():
            with m.State("CHECK"):
                with m.If(self.i.valid):
                    m.next = "ROUTE"
                with m.Elif(self.exhausted):
                    m.d.sync += [self.error.code.eq(ErrorCode.NO_END), self.error.index.eq(index)]
                    m.next = "STOP"
            with m.State("ROUTE"):
                with m.If(fault != 0):
                    m.d.sync += [self.error.code.eq(fault), self.error.index.eq(index),
                                 self.error.layer.eq(head["layer"])]
                    m.next = "STOP"
                with m.Else():
                    with m.Switch(opcode):
                        for codes, output in (((Opcode.LOAD,), self.o_load),
                                              ((Opcode.STORE,), self.o_store),
                                              ((Opcode.CONV, Opcode.KTV), self.o_compute),
                                              ((Opcode.END,), self.o_end)):
                            with m.Case(*codes):
                                m.d.comb += [output.valid.eq(1), self.i.ready.eq(output.ready)]
                    with m.If(self.i.ready):
                        m.next = "CHECK"
                        with m.If(opcode == Opcode.END):
                            m.next = "STOP"
            with m.State("STOP"):
                pass
        return m
