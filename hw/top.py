# SPDX-License-Identifier: Apache-2.0
"""The accelerator: control, DMA and compute unit."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from hw.control.control import Control
from hw.control.register_bank import RegisterBank, bank_members
from hw.dma.axi import axi4_lite, axi4_read, axi4_write
from hw.dma.load import Load
from hw.dma.read_port import ReadPort
from hw.dma.store import Store
from hw.dma.write_port import WritePort
from hw.regmap import ADDRESS_BITS

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """The whole accelerator. See docs/program.md for what it runs.

    Parameters: ``preset``; ``compute``, the compute unit, if not ``hw.compute.Compute(preset)``.

    Members
    -------
    m_axi_* : AXI4 master, to memory
    s_axil_* : AXI4-Lite slave, the registers of docs/registers.md
    irq : interrupt: a level, high from the end of a run until it is cleared
    """

    def __init__(self, preset, compute=None):
        self.preset = preset
        if compute is None:
            from hw.compute import Compute
            compute = Compute(preset)
        self.compute = compute
        read, write = axi4_read(preset.axi_bits), axi4_write(preset.axi_bits)
        super().__init__({
            **{f"m_axi_{name}": member for part in (write, read)
               for name, member in part.members.items()},
            **{f"s_axil_{name}": member.flip()
               for name, member in axi4_lite(ADDRESS_BITS).members.items()},
            "irq": Out(1)})

    def elaborate(self, platform):
        m = Module()
        preset, compute = self.preset, self.compute
        m.submodules.registers = registers = RegisterBank(preset)
        m.submodules.control = control = Control(preset)
        load, store = Load(preset), Store(preset)
        read_port, write_port = ReadPort(preset.axi_bits), WritePort(preset.axi_bits)
        # the same clock, but only the one registered reset: nothing else resets the units
        m.domains.units = ClockDomain(local=True)
        m.d.comb += [ClockSignal("units").eq(ClockSignal()),
                     ResetSignal("units").eq(control.reset_units)]
        units = DomainRenamer("units")
        m.submodules.load = units(load)
        m.submodules.store = units(store)
        m.submodules.read_port = units(read_port)
        m.submodules.write_port = units(write_port)
        m.submodules.compute = units(compute)

        # outside
        for prefix, bus in (("m_axi", read_port.axi), ("m_axi", write_port.axi),
                            ("s_axil", registers.bus)):
            for name, member in bus.signature.members.items():
                ours, theirs = getattr(self, f"{prefix}_{name}"), getattr(bus, name)
                m.d.comb += ours.eq(theirs) if member.flow is Out else theirs.eq(ours)
        m.d.comb += self.irq.eq(control.irq)
        for name, member in bank_members().items():
            bank, unit = getattr(registers, name), getattr(control, name)
            m.d.comb += unit.eq(bank) if member.flow is Out else bank.eq(unit)

        # memory
        connect(m, control.o_burst, read_port.i_fetch)
        connect(m, read_port.o_fetch, control.i_data)
        connect(m, load.o_burst, read_port.i_load)
        connect(m, read_port.o_load, load.i_data)
        connect(m, store.o_burst, write_port.i_burst)
        connect(m, store.o_data, write_port.i_data)
        m.d.comb += [
            store.done.eq(write_port.done), store.failed.eq(write_port.failed),
            read_port.base.eq(control.read_base), read_port.limit.eq(control.read_limit),
            write_port.base.eq(control.write_base), write_port.limit.eq(control.write_limit),
            control.read_beat.eq(read_port.beat), control.write_beat.eq(write_port.beat),
            control.drained.eq(read_port.idle & write_port.idle),
            load.stop.eq(control.stop), read_port.stop.eq(control.stop),
            write_port.stop.eq(control.stop),
        ]

        # units
        connect(m, control.o_load, load.i)
        connect(m, control.o_store, store.i)
        connect(m, control.o_compute, compute.i_beat)
        for name in ("load_valid", "load_target", "load_beat", "load_data"):
            m.d.comb += getattr(compute, name).eq(getattr(load, name))
        for name in ("done_valid", "done_post", "count_additions", "count_skipped",
                     "stall_cause"):
            m.d.comb += getattr(control, name).eq(getattr(compute, name))
        m.d.comb += [
            load.load_ready.eq(compute.load_ready),
            compute.store_beat.eq(store.store_beat), compute.store_enable.eq(store.store_enable),
            store.store_data.eq(compute.store_data),
            control.compute_error.eq(compute.error), control.compute_idle.eq(compute.idle),
            control.compute_error_layer.eq(compute.error_layer),
            control.compute_request.eq(compute.request), control.compute_wait.eq(compute.wait),
            compute.grant.eq(control.compute_grant), control.compute_layer.eq(compute.layer),
            control.load_post.eq(load.post), control.store_post.eq(store.post),
            control.load_idle.eq(load.idle), control.store_idle.eq(store.idle),
        ]
        for number, part in enumerate((load, store, read_port, write_port)):
            m.d.comb += control.report[number].eq(part.error)
        return m
