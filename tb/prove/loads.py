# SPDX-License-Identifier: Apache-2.0
"""Proof of what writes the weights: loads and the count matrix, between stand-ins for the rest."""

import dataclasses
from types import SimpleNamespace

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.compute import Compute
from hw.descriptor import Target
from tb.prove.presets import MINUTE
from tb.prove.proof import Bug, proof
from tb.prove.properties import Properties

__all__ = ["PROOFS"]

_PRESET = dataclasses.replace(MINUTE, lanes=16)  # a row of two beats
_ROWS, _ROW_BITS = exact_log2(_PRESET.weight_rows), _PRESET.weight_row_bits


class _Weights(wiring.Component):
    """The part of the compute unit that chooses what is written."""

    def __init__(self, block: type):
        self._preset, self._connect = _PRESET, block._connect_load
        super().__init__({
            "load_valid": In(1), "load_target": In(2), "load_beat": In(24),
            "load_data": In(_PRESET.axi_bits), "load_ready": Out(1),
            "write_valid": In(1), "write_row": In(_ROWS), "write_data": In(_ROW_BITS),
            "weight_valid": Out(1), "weight_row": Out(_ROWS), "weight_part": Out(2),
            "weight_same": Out(1), "weight_data": Out(_ROW_BITS)})

    def elaborate(self, platform):
        m = Module()
        engine = SimpleNamespace(
            map_write_valid=Signal(), map_write_beat=Signal(24), map_write_data=Signal(64),
            **{name: getattr(self, name) for name in (
                "weight_valid", "weight_row", "weight_part", "weight_same", "weight_data")})
        epilogue = SimpleNamespace(
            load_data=Signal(64), load_param=Signal(), load_param_beat=Signal(24),
            load_residual=Signal(), load_residual_beat=Signal(24))
        self._connect(self, m, engine, epilogue, self)
        return m


@proof(Compute, k=1, reach=4, bugs=[
    Bug("whatever comes next joins a part", "(row == row_before)", "1"),
    Bug("a write of counts joins a part", "~counts.write_valid & (row", "(row"),
    Bug("parts of a row are written apart", "(row == row_before)", "(row != row_before)"),
    Bug("a beat is lost behind a write of counts", "self.load_ready.eq(~is_weight)",
        "self.load_ready.eq(1)"),
])
def _weight_choice(p: Properties, block: type) -> None:
    """Writes of counts go before loads, and only a load's part is joined, by one of its row."""
    dut = p.add(_Weights(block))
    loads = dut.load_valid & (dut.load_target == Target.WEIGHT)
    loaded = loads & ~dut.write_valid
    row = dut.load_beat[1:][:_ROWS]
    up = p.register(1, "up")
    p.m.d.sync += up.eq(1)
    p.claim("a load of weights waits for a write of counts, and nothing else does",
            dut.load_ready == ~(dut.write_valid & (dut.load_target == Target.WEIGHT)))
    p.claim("there is a write where either comes", dut.weight_valid == dut.write_valid | loads)
    p.claim("of counts all parts", dut.weight_part.all() & (dut.weight_row == dut.write_row)
            & (dut.weight_data == dut.write_data), dut.write_valid)
    p.claim("of a load its part", (dut.weight_part == 1 << dut.load_beat[0])
            & (dut.weight_row == row) & (dut.weight_data == dut.load_data.replicate(2)), loaded)
    part_before = up & p.past(dut.weight_valid & ~dut.weight_part.all())
    p.claim("what joins a part is of its row", dut.weight_row == p.past(dut.weight_row),
            part_before & dut.weight_valid & dut.weight_same)
    p.claim("what joins a part is a part", ~dut.weight_part.all(),
            part_before & dut.weight_valid & dut.weight_same)
    p.claim("a part of the same row joins", dut.weight_same,
            part_before & loaded & (row == p.past(row)))
    p.cover("a part joins", part_before & loaded & dut.weight_same)


PROOFS = (_weight_choice,)
