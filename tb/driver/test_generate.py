# SPDX-License-Identifier: Apache-2.0
"""The generated design: port names, no multiplier, large memories."""

import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, signed
from amaranth.lib.memory import Memory

from hw.fastmem import fast_memories
from hw.generate import generate
from hw.presets import get_preset
from hw.top import Accelerator
from tb.driver.stub_compute import StubCompute, generate_stub

PORTS = [
    "m_axi_awid", "m_axi_awaddr", "m_axi_awlen", "m_axi_awsize", "m_axi_awburst",
    "m_axi_awlock", "m_axi_awcache", "m_axi_awprot", "m_axi_awvalid", "m_axi_awready",
    "m_axi_wdata", "m_axi_wstrb", "m_axi_wlast", "m_axi_wvalid", "m_axi_wready", "m_axi_bid",
    "m_axi_bresp", "m_axi_bvalid", "m_axi_bready", "m_axi_arid", "m_axi_araddr", "m_axi_arlen",
    "m_axi_arsize", "m_axi_arburst", "m_axi_arlock", "m_axi_arcache", "m_axi_arprot",
    "m_axi_arvalid", "m_axi_arready", "m_axi_rid", "m_axi_rdata", "m_axi_rresp", "m_axi_rlast",
    "m_axi_rvalid", "m_axi_rready", "s_axil_awaddr", "s_axil_awprot", "s_axil_awvalid",
    "s_axil_awready", "s_axil_wdata", "s_axil_wstrb", "s_axil_wvalid", "s_axil_wready",
    "s_axil_bresp", "s_axil_bvalid", "s_axil_bready", "s_axil_araddr", "s_axil_arprot",
    "s_axil_arvalid", "s_axil_arready", "s_axil_rdata", "s_axil_rresp", "s_axil_rvalid",
    "s_axil_rready", "irq", "clk", "rst",
]


def test_ports():
    verilog = generate_stub("tiny")
    top = verilog[verilog.index("module addend("):]
    ports = re.match(r"module addend\(([^)]*)\)", top)[1]
    assert sorted(ports.replace("\n", " ").replace(",", " ").split()) == sorted(PORTS)


@pytest.mark.parametrize("compute", [StubCompute, None], ids=["stub", "real"])
def test_no_multiplier(compute):
    if compute is None:
        pytest.importorskip("hw.compute")
    preset = get_preset("tiny")
    with fast_memories():
        text = rtlil.convert(Accelerator(preset, compute(preset) if compute else None))
    for cell in ("$mul", "$div", "$mod", "$macc"):
        assert f"cell {cell}" not in text


def test_multiplier_would_be_found():
    m = Module()
    from amaranth.hdl import Signal
    a, b, c = Signal(8), Signal(8), Signal(16)
    m.d.comb += c.eq(a * b)
    assert "cell $mul" in rtlil.convert(m, ports=[a, b, c])


def test_fast_memories_keep_content():
    def make(content):
        m = Module()
        m.submodules.memory = memory = Memory(shape=signed(12), depth=4, init=content)
        port = memory.read_port()
        return rtlil.convert(m, ports=[port.addr, port.data, port.en])

    content = [1, -2, 3, -2048]
    with fast_memories():
        quick, empty = make(content), make([])
    assert "meminit" not in empty
    bits = "".join(f"{row % 4096:012b}" for row in reversed(content))
    assert bits in quick
    assert bits in make(content)


def test_unknown_preset():
    with pytest.raises(ValueError, match="no preset 'huge'"):
        generate("huge")
