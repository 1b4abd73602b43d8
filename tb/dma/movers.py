# SPDX-License-Identifier: Apache-2.0
"""LOAD and STORE on the AXI4 master, as in the accelerator, for their testbench."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.dma.axi import axi4_read, axi4_write
from hw.dma.load import Load
from hw.dma.payloads import BEAT_BITS, REPORT, TRANSFER
from hw.dma.read_port import ReadPort
from hw.dma.store import Store
from hw.dma.write_port import WritePort
from hw.presets import Preset

__all__ = ["Movers"]



class Movers(wiring.Component):
    """Both units and both halves of the port.

    Members: ``i_load``, ``i_store`` transfers; the units' buffer ports; ``load_post``,
    ``store_post``, ``load_idle``, ``store_idle``; ``base_*``, ``limit_*`` of the regions;
    ``errors`` of load, store, read port, write port; ``m_axi_*``.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        bits = preset.axi_bits
        transfers = stream.Signature(TRANSFER)
        super().__init__({
            "i_load": In(transfers), "i_store": In(transfers),
            "load_valid": Out(1), "load_target": Out(2), "load_beat": Out(BEAT_BITS),
            "load_data": Out(bits), "load_ready": In(1), "load_post": Out(16), "load_idle": Out(1),
            "store_beat": Out(BEAT_BITS), "store_enable": Out(1), "store_data": In(bits),
            "store_post": Out(16), "store_idle": Out(1),
            "read_base": In(32), "read_limit": In(32), "write_base": In(32), "write_limit": In(32),
            "errors": Out(REPORT).array(4),
            **{f"m_axi_{name}": member for part in (axi4_write(bits), axi4_read(bits))
               for name, member in part.members.items()},
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.load = load = Load(self._preset)
        m.submodules.store = store = Store(self._preset)
        m.submodules.read_port = reads = ReadPort(self._preset.axi_bits)
        m.submodules.write_port = writes = WritePort(self._preset.axi_bits)
        connect(m, flipped(self.i_load), load.i)
        connect(m, flipped(self.i_store), store.i)
        connect(m, load.o_burst, reads.i_load)
        connect(m, reads.o_load, load.i_data)
        connect(m, store.o_burst, writes.i_burst)
        connect(m, store.o_data, writes.i_data)
        for name in ("load_valid", "load_target", "load_beat", "load_data"):
            m.d.comb += getattr(self, name).eq(getattr(load, name))
        m.d.comb += [
            load.load_ready.eq(self.load_ready),
            self.load_post.eq(load.post), self.load_idle.eq(load.idle & reads.idle),
            self.store_beat.eq(store.store_beat), self.store_enable.eq(store.store_enable),
            store.store_data.eq(self.store_data), store.done.eq(writes.done),
            store.failed.eq(writes.failed),
            self.store_post.eq(store.post), self.store_idle.eq(store.idle & writes.idle),
            reads.base.eq(self.read_base), reads.limit.eq(self.read_limit),
            writes.base.eq(self.write_base), writes.limit.eq(self.write_limit),
            *(ours.eq(part.error)
              for ours, part in zip(self.errors, (load, store, reads, writes), strict=True)),
        ]
        for bus in (reads.axi, writes.axi):
            for name, member in bus.signature.members.items():
                ours, theirs = getattr(self, f"m_axi_{name}"), getattr(bus, name)
                m.d.comb += ours.eq(theirs) if member.flow is Out else theirs.eq(ours)
        return m
