# SPDX-License-Identifier: Apache-2.0
"""The list of descriptors, and the semaphores that keep its units in step.

Layers are lowered as if descriptors ran one after the other. `Schedule` notes which part of which
buffer (and which rows of which tensor in memory) every descriptor touches, derives the hazards
between units from that, and turns them into waits and posts. Nothing else places semaphores.

CONVs may run into each other in the compute unit; where partial sums forbid that, a FENCE flag
keeps them apart.

Each pair of units has one semaphore, since units run in order:

    0  LOAD    -> compute   data of maps, weights, parameters, residuals is in its buffer
    1  compute -> LOAD      a part of a buffer has been read and may be overwritten
    2  compute -> STORE     results are in the output buffer
    3  STORE   -> compute   a part of the output buffer may be overwritten
    4  STORE   -> LOAD      a tensor's rows are in memory (the write responses have arrived)
    5  STORE   -> END       the last STORE has ended

A token goes from producer a to consumer b only where b's hazards are not covered by an earlier
consumer's token; producers and consumers of one semaphore are both in ascending order, so tokens
match in order, and every descriptor waits for and posts a semaphore at most once.

Program order itself satisfies every wait, so that queues of any depth can't deadlock. Inside that
rule LOADs are hoisted: a LOAD moves up to `HOIST` compute descriptors ahead of its place, but stays
`LAG` of them behind the last one it waits for, so that a blocked LOAD does not keep the dispatcher
from work that is ready.
"""

import dataclasses

import numpy as np

from hw.descriptor import FORMATS, DescriptorError, Flag, Opcode, Target
from hw.presets import Preset
from sw.compile.errors import CompileError

__all__ = ["HOIST", "LAG", "Op", "Range", "Schedule"]

HOIST = 12
LAG = 1
TOKENS = 192
"""Tokens of a semaphore that may be open at a point of the program; counters hold 255, and the
rest is for units that lag behind the dispatcher."""
_PAIRS = {("load", "compute"): 0, ("compute", "load"): 1, ("compute", "store"): 2,
          ("store", "compute"): 3, ("store", "load"): 4}
_END = 5
Range = tuple[int, int]


@dataclasses.dataclass(slots=True)
class Op:
    """One descriptor to be, and the latest descriptor of each other unit that it waits for."""

    unit: str
    opcode: Opcode
    layer: int
    fields: dict[str, int]
    needs: dict[str, int]
    slot: int
    wait: int = 0
    post: int = 0


def _clash(after: tuple[Range, Flag], before: tuple[Range, Flag]) -> bool:
    """Whether one of two CONVs writes partial sums that the other uses."""
    (a, b), flags = after
    (c, d), others = before
    used = flags & (Flag.PSUM_IN | Flag.PSUM_OUT) and others & (Flag.PSUM_IN | Flag.PSUM_OUT)
    return bool(used and (flags | others) & Flag.PSUM_OUT and a < d and c < b)


class Schedule:
    """Collects descriptors in sequential order; `finish` returns them packed."""

    def __init__(self, preset: Preset, layer_names: list[str]) -> None:
        self.preset, self.layer_names = preset, layer_names
        self.ops: list[Op] = []
        self._slots = 0
        beat = preset.axi_bits
        sizes = {"map": preset.map_words * 32 // beat,
                 "weight": preset.weight_rows * preset.weight_row_bits // beat,
                 "param": preset.param_rows * preset.param_row_bits // beat,
                 "residual": preset.residual_rows * preset.residual_row_bits // beat,
                 "out": preset.out_beats}
        self.sizes = sizes
        self._filled = {name: np.full(size, -1) for name, size in sizes.items()}
        self._computed = {name: np.full(size, -1) for name, size in sizes.items()}
        self._stored = np.full(preset.out_beats, -1)
        self._previous: tuple[Range, Flag] | None = None  # the last CONV's partial sums
        self._tensor: dict[str, np.ndarray] = {}

    def declare(self, tensor: str, units: int, rows: int) -> None:
        """Track STOREs to a tensor of ``units`` slices or tiles, each of ``rows`` rows."""
        self._tensor[tensor] = np.full((units, rows), -1)

    def _add(self, unit: str, opcode: Opcode, layer: int, fields: dict[str, int],
             needs: dict[str, int]) -> int:
        needs = {name: int(op) for name, op in needs.items() if op >= 0}
        self.ops.append(Op(unit, opcode, layer, fields, needs, self._slots))
        if unit == "compute":
            self._slots += 1
        return len(self.ops) - 1

    def load(self, layer: int, target: Target, fields: dict[str, int], extent: Range,
             source: tuple[str, Range, Range] | None = None) -> None:
        """A LOAD that writes beats ``extent`` of its buffer; ``source`` is the tensor read, its
        slices or tiles and its rows (None for constants and the input)."""
        low, high = extent
        name = target.name.lower()
        needs = {"compute": self._computed[name][low:high].max(initial=-1)}
        if source is not None and source[0] in self._tensor:
            tensor, units, rows = source
            needs["store"] = self._tensor[tensor][slice(*units), slice(*rows)].max(initial=-1)
        op = self._add("load", Opcode.LOAD, layer,
                       {"beat_step": 1, **fields, "target": target}, needs)
        self._filled[name][low:high] = op

    def compute(self, layer: int, opcode: Opcode, fields: dict[str, int],
                reads: list[tuple[str, Range]], writes: list[Range],
                psum: Range = (0, 0)) -> None:
        """A CONV or KTV that uses beats of buffers and writes beats of the output buffer.

        ``psum``: rows of the partial sums that its flags make it read or write. A CONV gets a
        FENCE where its pixels must not overtake those of the CONV before.
        """
        if opcode is Opcode.CONV:
            flags = Flag(fields["flags"])
            if self._previous is not None and _clash((psum, flags), self._previous):
                fields = {**fields, "flags": flags | Flag.FENCE}
            self._previous = psum, flags
        else:
            self._previous = None
        needs = {"load": max((self._filled[name][low:high].max(initial=-1)
                              for name, (low, high) in reads), default=-1),
                 "store": max((self._stored[low:high].max(initial=-1) for low, high in writes),
                              default=-1)}
        op = self._add("compute", opcode, layer, fields, needs)
        for name, (low, high) in [*reads, *(("out", extent) for extent in writes)]:
            self._computed[name][low:high] = op

    def store(self, layer: int, fields: dict[str, int], extent: Range, tensor: str,
              units: Range, rows: Range) -> None:
        """A STORE of output beats ``extent`` to slices or tiles and rows of a tensor."""
        low, high = extent
        needs = {"compute": self._computed["out"][low:high].max(initial=-1)}
        op = self._add("store", Opcode.STORE, layer, {"beat_step": 1, **fields}, needs)
        self._stored[low:high] = op
        self._tensor[tensor][slice(*units), slice(*rows)] = op

    # Order and semaphores ---------------------------------------------------------------------

    def _order(self) -> list[int]:
        """Numbers of the descriptors in program order: LOADs hoisted, the rest as it came."""
        slots: list[list[int]] = [[] for _ in range(self._slots + 1)]
        loads: list[list[int]] = [[] for _ in range(self._slots + 1)]
        computes: list[int] = []
        previous = 0
        for number, op in enumerate(self.ops):
            if op.unit == "compute":
                computes.append(number)
            elif op.unit == "store":
                slots[op.slot].append(number)
            else:
                earliest = max(op.slot - HOIST, previous)
                if "compute" in op.needs:
                    earliest = max(earliest, self.ops[op.needs["compute"]].slot + 1 + LAG)
                if "store" in op.needs:
                    earliest = max(earliest, self.ops[op.needs["store"]].slot)
                previous = max(previous, min(earliest, op.slot))
                loads[previous].append(number)
        order: list[int] = []
        for slot in range(self._slots + 1):
            order += slots[slot] + loads[slot] + computes[slot:slot + 1]
        return order

    def _tokens(self, order: list[int]) -> None:
        covered = dict.fromkeys(_PAIRS, -1)
        for number in order:
            op = self.ops[number]
            for producer, needed in op.needs.items():
                pair = producer, op.unit
                if needed > covered[pair]:
                    covered[pair] = needed
                    op.wait |= 1 << _PAIRS[pair]
                    self.ops[needed].post |= 1 << _PAIRS[pair]

    def _check_levels(self, order: list[int]) -> None:
        level = dict.fromkeys(_PAIRS.values(), 0)
        for op in (self.ops[number] for number in order):
            for semaphore in level:
                level[semaphore] += (op.post >> semaphore & 1) - (op.wait >> semaphore & 1)
                if level[semaphore] > TOKENS:
                    raise CompileError(f"layer '{self.layer_names[op.layer]}': more than {TOKENS} "
                                       f"tokens of semaphore {semaphore} are open")

    def finish(self) -> list[bytes]:
        """The descriptors, packed, with END."""
        order = self._order()
        self._tokens(order)
        self._check_levels(order)
        last = next((n for n in reversed(order) if self.ops[n].unit == "store"), None)
        if last is None:
            raise CompileError("the model writes nothing")
        self.ops[last].post |= 1 << _END
        packed = []
        for number in order:
            op = self.ops[number]
            try:
                packed.append(FORMATS[op.opcode].pack(
                    opcode=op.opcode, layer=op.layer, wait=op.wait, post=op.post, **op.fields))
            except DescriptorError as error:
                raise CompileError(f"layer '{self.layer_names[op.layer]}': {error}") from None
        packed.append(FORMATS[Opcode.END].pack(opcode=Opcode.END, wait=1 << _END))
        return packed
