# SPDX-License-Identifier: Apache-2.0
"""Changes to a compiled program: its descriptors, and the constants in memory."""

import dataclasses
from collections.abc import Callable

import numpy as np

from hw.descriptor import FORMATS, Opcode, Target
from sw.compile.program import Program

__all__ = ["Fields", "constants", "descriptors", "replace", "with_number"]

Fields = dict[str, int]


def descriptors(program: Program, layer: int, opcode: Opcode,
                target: Target | None = None) -> dict[int, Fields]:
    """A layer's descriptors of one kind, by their number in the program."""
    found = {number: FORMATS[opcode].unpack(data)
             for number, data in enumerate(program.descriptors) if data[0] == opcode}
    return {number: fields for number, fields in found.items()
            if fields["layer"] == layer and target in (None, fields.get("target"))}


def constants(program: Program, layer: int, target: Target) -> int:
    """Address of a layer's weights or parameters: that of its lowest LOAD."""
    return min(fields["address"]
               for fields in descriptors(program, layer, Opcode.LOAD, target).values())


def replace(program: Program, new: dict[int, list[Fields]]) -> Program:
    """The program with the descriptors of these numbers replaced by others."""
    made: list[bytes] = []
    for number, data in enumerate(program.descriptors):
        form = FORMATS[Opcode(data[0])]
        made += [form.pack(**fields) for fields in new[number]] if number in new else [data]
    code = np.frombuffer(b"".join(made), np.uint8)
    segments = [segment for segment in program.segments if segment[0] != program.address]
    end = max(program.base + program.size, program.address + code.size)
    return dataclasses.replace(
        program, descriptors=tuple(made), segments=(*segments, (program.address, code)),
        size=end - program.base, read_region=(program.read_region[0], end))


def with_number(program: Program, address: int, size: int,
                change: Callable[[int], int]) -> Program:
    """The program with a little-endian number of ``size`` bytes in its constants changed."""
    segments, found = [], False
    for start, data in program.segments:
        if start <= address < start + data.size:
            data, at, found = data.copy(), address - start, True
            number = change(int.from_bytes(data[at:at + size].tobytes(), "little"))
            data[at:at + size] = np.frombuffer(number.to_bytes(size, "little"), np.uint8)
        segments.append((start, data))
    if not found:
        raise ValueError(f"no constant at {address:#x}")
    return dataclasses.replace(program, segments=tuple(segments))
