# SPDX-License-Identifier: Apache-2.0
"""How many block RAMs, or UltraRAMs, yosys makes of a buffer.

Follows what its pass ``memory_libmap`` does for memories like ours (one clock, rows that are not
read while they are written): every memory of the library in every width is given a cost, and the
cheapest is taken, the first of equals. Costs and widths are those of ``brams_16kd.txt``,
``lutrams_trellis.txt``, ``brams_xc4v.txt``, ``lutrams_xc5v.txt``, ``lutrams_xcu.txt`` and
``urams.txt`` of yosys 0.70. Where a family has UltraRAM, a buffer that is ``bulk`` lies there.
"""

import dataclasses
import math
from collections.abc import Iterator

from sw.fpga.buffers import Buffer

__all__ = ["FAMILIES", "Mapping", "map_buffer"]

_BYTE = 9
"""Bits that one write enable of a block RAM or UltraRAM covers, where it is as wide."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ram:
    """A memory of the library, in one of its modes."""

    address_bits: int
    """Of the narrowest of ``widths``."""
    widths: tuple[int, ...]
    cost: float
    dual: bool
    """Two ports that each read and write, else one of each kind."""
    single: bool = False
    """One port only, which reads and writes."""
    block_ram: float = 0
    """Block RAMs that it is, as a target counts them."""
    ultra_ram: int = 0
    """UltraRAMs that it is."""
    lut: int = 0
    """LUTs that it is, where it is distributed."""
    scale: float = 0
    """Part of the cost that goes with the bits that are used."""


@dataclasses.dataclass(frozen=True)
class Mapping:
    """What a buffer becomes."""

    block_ram: float
    """Block RAMs of all its memories: of 16 kbit on the ECP5, of 36 kbit (or half) on Xilinx."""
    ultra_ram: int
    """UltraRAMs of all its memories."""
    lut: int
    """LUTs of all its memories, where distributed memory is cheaper; without multiplexers."""


_NARROW = (1, 2, 4, 9)


def _xilinx(cascade: bool) -> tuple[_Ram, ...]:
    """Block RAM of 18 and 36 kbit, true dual-port and simple dual-port."""
    half, full = {"cost": 129, "block_ram": 0.5}, {"cost": 257, "block_ram": 1}
    rams = [_Ram(address_bits=14, widths=(*_NARROW, 18), dual=True, **half),
            _Ram(address_bits=15, widths=(*_NARROW, 18, 36), dual=True, **full)]
    if cascade:
        rams.append(_Ram(address_bits=16, widths=_NARROW, dual=True, cost=513, block_ram=2))
    return (*rams, _Ram(address_bits=14, widths=(*_NARROW, 18, 36), dual=False, **half),
            _Ram(address_bits=15, widths=(*_NARROW, 18, 36, 72), dual=False, **full))


def _lut_rams(lut: int, scale: float, *shapes: tuple[int, int]) -> tuple[_Ram, ...]:
    """Distributed memory of Xilinx devices, of so many LUTs: (address bits, width)."""
    return tuple(_Ram(address_bits=bits, widths=(width,), cost=2 * lut, scale=scale, dual=False,
                      lut=lut) for bits, width in shapes)


_ULTRA_RAMS = (
    _Ram(address_bits=12, widths=(72,), cost=1024, dual=True, ultra_ram=1),
    _Ram(address_bits=11, widths=(144,), cost=1024, dual=True, single=True, ultra_ram=1))
"""Of two ports that each read and write, or of one, twice as wide."""

FAMILIES = {
    "ecp5": (
        _Ram(address_bits=4, widths=(4,), cost=4, dual=False, lut=6),
        _Ram(address_bits=14, widths=(*_NARROW, 18), cost=128, dual=True, block_ram=1),
        _Ram(address_bits=14, widths=(*_NARROW, 18, 36), cost=128, dual=False, block_ram=1)),
    "xc7": (*_lut_rams(4, 7, (5, 6), (6, 3)), *_xilinx(True)),
    "xcup": (*_lut_rams(8, 16, (5, 14), (6, 7)), *_xilinx(False)),
}
"""Memories by family, in the order of the library."""

_BULK = {"xcup": _ULTRA_RAMS}
"""The same, of the families that have some, for buffers that are ``bulk``."""


def map_buffer(buffer: Buffer, family: str) -> Mapping:
    """Return what the buffer becomes on a family of FAMILIES."""
    best, cheapest = None, math.inf
    rams = _BULK.get(family, FAMILIES[family]) if buffer.bulk else FAMILIES[family]
    for ram in rams:
        for cost, found in _configurations(buffer, ram):
            if cost < cheapest:
                best, cheapest = found, math.floor(cost)  # as yosys keeps it
    return best


def _configurations(buffer: Buffer, ram: _Ram) -> Iterator[tuple[float, Mapping]]:
    """Cost and result of a memory in each of its widths."""
    if (ram.single and not (buffer.shared and buffer.reads == 1)) or (ram.lut and buffer.forced):
        return
    joined = buffer.shared and ram.dual
    readers = buffer.reads - joined  # ports that do nothing but read
    copies = 1 if ram.dual and readers <= 1 else max(1, readers)
    for step, width in enumerate(ram.widths):
        byte = width if ram.lut else min(_BYTE, width)
        row = buffer.strobes * -(-buffer.strobe // byte) * byte
        deep = max(1, -(-buffer.depth // (1 << ram.address_bits - step)))
        number = -(-deep * row // width) * copies
        cost = (ram.cost - ram.scale) * number + ram.scale * deep * buffer.width / width * copies
        cost += 0.5 * (deep - 1) * buffer.width * buffer.reads
        cost += 0.5 * deep * buffer.strobes if deep > 1 else 0
        cost += 2 * readers
        number *= buffer.count
        yield cost, Mapping(ram.block_ram * number, ram.ultra_ram * number, ram.lut * number)
