# SPDX-License-Identifier: Apache-2.0
"""The host's registers behind AXI4-Lite."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.dma.axi import axi4_lite
from hw.regmap import ADDRESS_BITS, COUNTERS, REGISTERS, VERSION, Access, identity

__all__ = ["COUNTER_WIDTH", "RegisterBank", "bank_members"]

COUNTER_WIDTH = 48


def bank_members():
    """Return the bank's ports, seen from the bank: one for each field and each counter."""
    members = {name: In(COUNTER_WIDTH) for name in COUNTERS}
    for register in _plain():
        direction = In if register.access is Access.READ else Out
        for name, lsb, width in register.ports():
            members[name] = direction(width, init=register.init >> lsb & (1 << width) - 1)
    return members


def _plain():
    """List the registers that have ports of their own: no constants, no halves of counters."""
    halves = {f"{name}_{half}" for name in COUNTERS for half in ("low", "high")}
    return [register for register in REGISTERS
            if register.access is not Access.CONSTANT and register.name not in halves]


class RegisterBank(wiring.Component):
    """The registers of hw.regmap.

    A write takes three cycles, as does a read; byte strobes are honoured; unknown addresses read 0.
    Reading the low half of a counter keeps its upper half for the next read of any upper half.

    Parameters: ``preset``, for the identity.

    Members: ``bus`` AXI4-Lite; a port for each field of regmap.REGISTERS, named register_field;
    strobes last one cycle.
    """

    def __init__(self, preset):
        self.preset = preset
        super().__init__({"bus": In(axi4_lite(ADDRESS_BITS))} | bank_members())

    def _values(self):
        """List the value that each register reads as, but for the upper halves of counters."""
        constants = {"identity": identity(self.preset), "version": VERSION}
        values = []
        for register in REGISTERS:
            counter, _, half = register.name.rpartition("_")
            if register.name in constants:
                values.append(C(constants[register.name], 32))
            elif counter in COUNTERS:  # its lower half brings the upper one along
                values.append(getattr(self, counter) if half == "low" else C(0, 32))
            elif register.access is Access.STROBE:
                values.append(C(0, 32))
            else:
                values.append(Cat(getattr(self, name) for name, _, _ in register.ports()))
        return values

    def elaborate(self, platform):
        m = Module()
        bus = self.bus

        # write: address and data are held until both are there; then which register it is comes
        # out of registers, as the ports are far apart
        address = Signal(ADDRESS_BITS)
        word = Signal(32)
        strobe = Signal(4)
        have_address = Signal()
        have_word = Signal()
        write = have_address & have_word & ~bus.bvalid
        m.d.comb += [bus.awready.eq(~have_address), bus.wready.eq(~have_word)]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address.eq(bus.awaddr), have_address.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [word.eq(bus.wdata), strobe.eq(bus.wstrb), have_word.eq(1)]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(write):
            m.d.sync += [have_address.eq(0), have_word.eq(0)]
        written = Signal()
        m.d.sync += written.eq(write)
        with m.If(written):
            m.d.sync += bus.bvalid.eq(1)
        mask = Cat(bit.replicate(8) for bit in strobe)
        for index, register in enumerate(REGISTERS):
            if register.access not in (Access.WRITE, Access.STROBE):
                continue
            hit = Signal(name=f"hit_{register.name}")
            m.d.sync += hit.eq(write & (address[2:] == index))
            for name, lsb, width in register.ports():
                port, bits = getattr(self, name), slice(lsb, lsb + width)
                if register.access is Access.STROBE:
                    m.d.sync += port.eq(Mux(hit, word[bits] & mask[bits], 0))
                    continue
                with m.If(hit):
                    m.d.sync += port.eq((port & ~mask[bits]) | (word[bits] & mask[bits]))

        # read: choose among eight registers, then among the eights
        wanted = Signal(ADDRESS_BITS)
        have_wanted, chosen = Signal(), Signal()
        kept = Signal(COUNTER_WIDTH - 32)
        m.d.comb += bus.arready.eq(~have_wanted)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [wanted.eq(bus.araddr), have_wanted.eq(1)]
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        values = self._values()
        eights = [values[n:n + 8] for n in range(0, len(values), 8)]
        found = [Signal(COUNTER_WIDTH, name=f"found_{n}", reset_less=True)
                 for n in range(len(eights))]
        is_low, is_high = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            chosen.eq(have_wanted & ~bus.rvalid & ~chosen),
            is_low.eq(self._any_of(wanted, "low")), is_high.eq(self._any_of(wanted, "high"))]
        for register, eight in zip(found, eights, strict=True):
            with m.Switch(wanted[2:5]):
                for index, value in enumerate(eight):
                    with m.Case(index):
                        m.d.sync += register.eq(value)
                with m.Default():
                    m.d.sync += register.eq(0)
        value = Signal(COUNTER_WIDTH)
        with m.Switch(wanted[5:]):
            for index, register in enumerate(found):
                with m.Case(index):
                    m.d.comb += value.eq(register)
        with m.If(chosen):
            m.d.sync += [bus.rvalid.eq(1), have_wanted.eq(0),
                         bus.rdata.eq(Mux(is_high, kept, value[:32]))]
            with m.If(is_low):
                m.d.sync += kept.eq(value[32:])
        return m

    @staticmethod
    def _any_of(address, half):
        """Return whether the address is that of this half of a counter."""
        names = [register.name for register in REGISTERS]
        return Cat(address[2:] == names.index(f"{counter}_{half}") for counter in COUNTERS).any()
