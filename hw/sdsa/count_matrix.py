# SPDX-License-Identifier: Apache-2.0
"""K^T V of spike-driven self-attention, counted into weight rows."""

import itertools

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.conv.scanner import Scanner
from hw.descriptor import DESCRIPTOR_WORDS, KTV
from hw.dma.queue import Queue
from hw.dma.skid import Skid
from hw.mux import at_most_one
from hw.payloads import EntryLayout, descriptor_layout
from hw.presets import LEVEL_BITS, WORD_BITS, Preset

__all__ = ["CountMatrix"]

_QUEUE = 8
_CARRIES = 8
"""Additions under way and carries that wait, together."""
_READ_LATENCY = 4
"""Cycles of a map read."""
_WRITE_LATENCY = 2
"""Cycles from a write to the first question that sees it, less one."""


class CountMatrix(wiring.Component):
    """Adds, for each token and each set bit i of K, the row V to row i of a count matrix.

    ``count[i][j] += V[n][j]`` for all tokens n with ``K[n][i]``, as ``docs/program.md`` (KTV):
    counts of one byte, carrying into the row ``part_step`` further where ``parts`` is above 1. V
    has up to LEVEL_BITS bit planes; K has up to 8, whose weights double or are all 1. The rows lie
    in the weight buffer, where a CONV uses them as the weights of Q: together SDSA-3 of
    Meta-SpikeFormer and E-SDSA of E-SpikeFormer. Equals ``sw.golden.sdsa``.

    With ``diagonal`` K AND V, bit by bit, is added (SDSA-1 of the Spike-driven Transformer): of
    token n to row n mod 32, so that additions don't wait for each other; a CONV adds up the rows.

    **Throughput** a token in as many cycles as V and K have planes, and an addition a cycle; each
    row of carries is one more. An addition waits for one to the same row that is still on its way.
    **Latency** 15 cycles.

    Members
    -------
    start : In
        Strobe: begin.
    descriptor : In
        The KTV; holds while ``busy``.
    busy : Out
        From the cycle behind ``start`` until the last row is written.
    map_enable, map_address : Out
        Read port of the map buffer: this and the following words.
    map_data : In
        Its answer, 4 cycles later.
    read_enable, read_row : Out
        A read port of the weight buffer, a cycle ahead.
    read_data : In
        Its answer, 3 cycles later: ``lanes`` counts of a byte, lane 0 lowest.
    write_valid, write_row, write_data : Out
        A whole row for the weight buffer, always taken.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        rows = exact_log2(preset.weight_rows)
        super().__init__({
            "start": In(1),
            "descriptor": In(32 * DESCRIPTOR_WORDS),
            "busy": Out(1),
            "map_enable": Out(1),
            "map_address": Out(exact_log2(preset.map_words)),
            "map_data": In(data.ArrayLayout(WORD_BITS, preset.map_banks)),
            "read_enable": Out(1),
            "read_row": Out(rows),
            "read_data": In(preset.weight_row_bits),
            "write_valid": Out(1),
            "write_row": Out(rows),
            "write_data": Out(preset.weight_row_bits),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        banks, lanes = preset.map_banks, preset.lanes
        d = Signal(descriptor_layout(KTV), reset_less=True)  # the sequencer's is far away
        begin = Signal()
        m.d.sync += [d.as_value().eq(self.descriptor), begin.eq(self.start)]
        rows = len(self.read_row)
        # registers: what ends a row, a step, all
        lasts = {}
        for name in ("columns", "rows", "time_steps"):
            lasts[name] = Signal.like(d[name], name=f"{name}_last", reset_less=True)
            m.d.sync += lasts[name].eq(d[name] - 1)

        def from_head(word):
            """Return a head's lanes of a word: it begins at most at WORD_BITS - lanes."""
            bits = (WORD_BITS - lanes).bit_length()
            return (word >> d.value_bit[:bits] if bits else word)[:lanes]
        m.submodules.scanner = scanner = Scanner(preset)

        # Walk: for each step: clear, then for each token V and the words of K.
        step = Signal(8)
        column, row = Signal(16), Signal(16)
        clear_left, clear_row, clear_base = Signal(16), Signal(rows), Signal(rows)
        weight_base = Signal(rows)
        offset = Signal(len(self.map_address))  # of the token in K
        row_offset, step_offset = Signal.like(offset), Signal.like(offset)
        v_offset, v_row_offset, v_step_offset = (Signal.like(offset, name=name) for name in (
            "v_offset", "v_row_offset", "v_step_offset"))
        key = Signal(8)  # first word of K still to be read
        left = Signal(8)  # words of K from there on
        key_row = Signal(rows)
        level, arriving = Signal(range(_QUEUE + 1)), Signal(range(_QUEUE + 1))
        room, quiet, next_token = Signal(), Signal(), Signal()
        issue_value, issue_key = Signal(), Signal()
        plane, plane_offset = Signal(range(LEVEL_BITS)), Signal.like(offset)
        key_plane, key_offset = Signal(range(8)), Signal.like(offset)
        token_bit = Signal(5)  # its number modulo 32
        last_plane, single_plane = Signal(), Signal(reset_less=True)
        planes_but_two = Signal.like(key_plane, reset_less=True)
        m.d.sync += [single_plane.eq(d.key_planes == 1), planes_but_two.eq(d.key_planes - 2)]

        def follows(name, value):
            """Return a register a cycle behind: a token, and a step, take at least two cycles."""
            register = Signal.like(value, name=name, reset_less=True)
            m.d.sync += register.eq(value)
            return register
        last_column, last_row, last_step = (
            follows(f"last_{name[:-1]}", at == lasts[name])
            for name, at in (("columns", column), ("rows", row), ("time_steps", step)))
        next_offset, next_row, next_step, next_v_offset, next_v_row, next_v_step, next_clear = (
            follows(f"next_{name}", (at + by)[:len(at)]) for name, at, by in (
                ("offset", offset, d.column_step), ("row", row_offset, d.row_step),
                ("step", step_offset, d.time_step), ("v_offset", v_offset, d.value_column_step),
                ("v_row", v_row_offset, d.value_row_step),
                ("v_step", v_step_offset, d.value_time_step),
                ("clear", clear_base, d.clear_time_step)))

        def begin_keys():
            return [key.eq(0), key_row.eq(weight_base), left.eq(d.key_words),
                    last_key.eq(d.key_words <= banks)]
        last_key = Signal()

        def begin_step():
            return [clear_left.eq(d.clear_rows), column.eq(0), row.eq(0), token_bit.eq(0)]

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(begin | ~fsm.ongoing("WAIT"))
            with m.State("WAIT"), m.If(begin):
                m.d.sync += [step.eq(0), clear_base.eq(d.clear_base),
                             weight_base.eq(d.weight_base), step_offset.eq(0),
                             clear_row.eq(d.clear_base), offset.eq(0), row_offset.eq(0),
                             v_step_offset.eq(0), v_offset.eq(0), v_row_offset.eq(0)]
                m.d.sync += begin_step()
                m.next = "CLEAR-ROWS"
            with m.State("CLEAR-ROWS"):
                m.d.sync += [clear_row.eq(clear_row + 1), clear_left.eq(clear_left - 1)]
                with m.If(clear_left == 0):
                    m.next = "READ-VALUE"
            with m.State("READ-VALUE"):
                m.d.comb += issue_value.eq(1)
                m.d.sync += [*begin_keys(), plane.eq(plane + 1), last_plane.eq(single_plane),
                             plane_offset.eq(plane_offset + d.value_plane_step)]
                with m.If(plane == d.value_planes - 1):
                    m.d.sync += [plane.eq(0), plane_offset.eq(0)]
                    m.next = "READ-KEYS"
            with m.State("READ-KEYS"), m.If(room):
                m.d.comb += issue_key.eq(1)
                m.d.sync += [key.eq(key + banks), left.eq(left - banks),
                             last_key.eq(left <= 2 * banks), key_row.eq(key_row + 32 * banks)]
                with m.If(last_key & ~last_plane):
                    m.d.sync += [*begin_keys(), key_plane.eq(key_plane + 1),
                                 last_plane.eq(key_plane == planes_but_two),
                                 key_offset.eq(key_offset + d.key_plane_step)]
                with m.Elif(last_key):
                    m.d.comb += next_token.eq(1)
                    m.d.sync += [key_plane.eq(0), key_offset.eq(0)]
                    m.next = "READ-VALUE"
                    with m.If(last_column & last_row):
                        m.next = "DRAIN"
            with m.State("DRAIN"), m.If(quiet):
                m.d.sync += [
                    step.eq(step + 1),
                    *(signal.eq(next_step) for signal in (step_offset, row_offset, offset)),
                    *(signal.eq(next_v_step) for signal in (v_step_offset, v_row_offset, v_offset)),
                    weight_base.eq(weight_base + d.weight_time_step),
                    clear_base.eq(next_clear), clear_row.eq(next_clear),
                ]
                m.d.sync += begin_step()
                with m.If(last_step):
                    m.next = "WAIT"
                with m.Else():
                    m.next = "CLEAR-ROWS"
        with m.If(next_token):
            m.d.sync += [token_bit.eq(token_bit + 1), column.eq(column + 1),
                         offset.eq(next_offset), v_offset.eq(next_v_offset)]
            with m.If(last_column):
                m.d.sync += [column.eq(0), row.eq(row + 1), offset.eq(next_row),
                             row_offset.eq(next_row), v_offset.eq(next_v_row),
                             v_row_offset.eq(next_v_row)]
        clear, clearing = Signal(), Signal()
        m.d.comb += clear.eq(fsm.ongoing("CLEAR-ROWS") & (clear_left != 0))
        m.d.sync += clearing.eq(clear)

        # Map reads, and what comes back.
        stage = data.StructLayout({"value": 1, "key": 1, "first": 1, "words": banks,
                                   "last": banks, "row": rows, "shift": 2,
                                   "token": 5})
        stages = [Signal(stage, name=f"read_s{n}") for n in range(_READ_LATENCY + 1)]
        m.d.sync += [
            self.map_address.eq(Mux(issue_value, d.value_base + plane_offset + v_offset,
                                    d.key_base + key + key_offset + offset)),
            stages[0].token.eq(token_bit),
            stages[0].shift.eq(Mux(d.key_double, d.key_planes - 1 - key_plane, 0)),
            stages[0].value.eq(issue_value), stages[0].key.eq(issue_key),
            stages[0].first.eq(Mux(issue_value, plane == 0, key == 0)), stages[0].row.eq(key_row),
            stages[0].words.eq(Cat(left > n for n in range(banks))),
            stages[0].last.eq(Cat(left == n + 1 for n in range(banks))),
        ]
        m.d.comb += self.map_enable.eq(stages[0].value | stages[0].key)
        m.d.sync += [b.eq(a) for a, b in itertools.pairwise(stages)]
        back = stages[-1]
        value = [Signal(lanes, name=f"value_plane_{n}", reset_less=True)  # lowest first
                 for n in range(LEVEL_BITS)]
        with m.If(back.value):
            m.d.sync += value[0].eq(from_head(self.map_data[0]) & d.lane_mask)
            m.d.sync += [b.eq(Mux(back.first, 0, a)) for a, b in itertools.pairwise(value)]
        # only the head's bits of K count; a stage of its own
        words = [Signal(WORD_BITS, name=f"key_{n}", reset_less=True) for n in range(banks)]
        arrived, key_at = Signal(), Signal(rows, reset_less=True)
        shift_at = [Signal(2, name=f"shift_{n}", reset_less=True) for n in range(2)]
        token_at = Signal(5, reset_less=True)
        m.d.sync += [arrived.eq(back.key), token_at.eq(back.token), key_at.eq(back.row),
                     shift_at[0].eq(back.shift), shift_at[1].eq(shift_at[0])]
        for bank in range(banks):
            word = self.map_data[bank]
            word = word & Mux(back.first, d.first_mask, ~C(0, 32)) if bank == 0 else word
            m.d.sync += words[bank].eq(
                word & Mux(back.last[bank], d.last_mask, ~C(0, 32))
                & back.words[bank].replicate(WORD_BITS))
        entry = Signal(EntryLayout(preset), reset_less=True)
        nonzero = Signal(banks)
        masked = Signal()
        m.d.sync += [masked.eq(arrived), entry.row.eq(key_at[5:])]
        m.d.comb += [entry.end.eq(1), entry.single.eq(at_most_one(nonzero))]
        for bank in range(banks):
            m.d.sync += [entry.words[bank].eq(words[bank]), nonzero[bank].eq(words[bank].any())]
        with m.If(d.diagonal[0]):
            m.d.sync += [entry.words[0].eq(1 << token_at), nonzero.eq(1)]
        # a token's V comes before its K and holds until the next token's
        token_value = [Signal(LEVEL_BITS * lanes, name=f"value_{n}", reset_less=True)
                       for n in range(2)]
        keys = from_head(words[0])
        chosen, has_value = Signal.like(token_value[0], name="chosen"), Signal()
        m.d.comb += chosen.eq(Mux(d.diagonal[0], token_value[0][:lanes] & keys, token_value[0]))
        m.d.sync += [token_value[0].eq(Cat(*value)), token_value[1].eq(chosen),
                     has_value.eq(chosen.any())]
        push, pop = Signal(), Signal()
        m.d.comb += push.eq(masked & nonzero.any() & has_value)
        # what leaves the queue in this cycle is room in the next but one
        m.d.sync += [arriving.eq(arriving + issue_key - masked),
                     room.eq(level + arriving + issue_key - (masked & ~push) < _QUEUE)]
        entry_bits = len(entry.as_value())
        entries = Memory(shape=unsigned(entry_bits + banks), depth=_QUEUE, init=[])
        values = Memory(shape=unsigned(LEVEL_BITS * lanes + 2), depth=2 * _QUEUE, init=[])
        m.submodules.entries, m.submodules.values = entries, values
        entry_write, entry_read = entries.write_port(), entries.read_port(domain="comb")
        value_write, value_read = values.write_port(), values.read_port(domain="comb")
        m.d.comb += [
            entry_write.en.eq(push), entry_write.data.eq(Cat(entry, nonzero)),
            value_write.en.eq(push), value_write.data.eq(Cat(token_value[1], shift_at[1])),
            scanner.i_valid.eq(level != 0), pop.eq(scanner.i_take),
            scanner.i.eq(entry_read.data[:entry_bits]),
            scanner.nonzero.eq(entry_read.data[entry_bits:]),
        ]
        m.d.sync += [entry_write.addr.eq(entry_write.addr + push),
                     entry_read.addr.eq(entry_read.addr + pop),
                     value_write.addr.eq(value_write.addr + push),
                     level.eq(level + push - pop)]

        # Read, add, write; additions to a row on its way wait, and carries go first.
        m.submodules.tokens = tokens = Skid(data.StructLayout({"row": rows, "end": 1}))
        m.d.comb += [
            tokens.i.valid.eq(scanner.o_valid), tokens.i.payload.row.eq(scanner.o.row),
            tokens.i.payload.end.eq(scanner.o.end), scanner.enable.eq(tokens.i.ready)]
        m.submodules.carries = carries = Queue(
            data.StructLayout({"row": rows, "part": 8, "lanes": lanes}), _CARRIES)
        operation = data.StructLayout({"valid": 1, "row": rows, "part": 8})
        # s0 asks, s4 writes; behind that, until reads see it
        flight = [Signal(operation, name=f"add_s{n}") for n in range(5 + _WRITE_LATENCY)]
        alive = Signal(range(_CARRIES + 1))  # additions that may still carry, and carries
        begin_carry, begin_token = Signal(), Signal()
        going = Signal(rows)  # the row that is asked for next
        token, token_may = _candidate(m, "token", tokens.o, begin_token, flight, going)
        carry, carry_may = _candidate(m, "carry", carries.o, begin_carry, flight, going)
        room_to_carry, next_alive = Signal(init=1), Signal.like(alive)
        m.d.comb += [begin_carry.eq(carry_may),
                     begin_token.eq(token_may & ~carry.valid & room_to_carry),
                     going.eq(Mux(carry.valid, carry.payload.row, token.payload.row))]
        m.d.sync += [
            value_read.addr.eq(value_read.addr + (begin_token & token.payload.end)),
            flight[0].valid.eq(begin_carry | begin_token),
            flight[0].row.eq(going),
            flight[0].part.eq(Mux(carry.valid, carry.payload.part, 0)),
        ]
        m.d.sync += [b.eq(a) for a, b in itertools.pairwise(flight)]
        m.d.comb += [self.read_row.eq(flight[0].row), self.read_enable.eq(1)]
        # what is added: a carry, or the token's V, doubled as often as the plane of K asks
        size = LEVEL_BITS + LEVEL_BITS - 1
        planes = [Signal(LEVEL_BITS * lanes, name=f"planes_{n}", reset_less=True)
                  for n in range(3)]
        shifts = [Signal(2, name=f"doublings_{n}", reset_less=True) for n in range(3)]
        m.d.sync += [
            planes[0].eq(Mux(carry.valid, carry.payload.lanes,
                             value_read.data[:LEVEL_BITS * lanes])),
            shifts[0].eq(Mux(carry.valid, 0, value_read.data[LEVEL_BITS * lanes:])),
            *(b.eq(a) for pipeline in (planes, shifts) for a, b in itertools.pairwise(pipeline))]
        sums, over = Signal(8 * lanes, reset_less=True), Signal(lanes, reset_less=True)
        for lane in range(lanes):
            addend = Signal(size, name=f"addend_{lane}", reset_less=True)
            total = Signal(9, name=f"total_{lane}")
            m.d.sync += addend.eq(
                Cat(planes[2][lanes * n + lane] for n in range(LEVEL_BITS)) << shifts[2])
            m.d.comb += total.eq(addend + self.read_data[8 * lane:8 * lane + 8])
            m.d.sync += [sums[8 * lane:8 * lane + 8].eq(total), over[lane].eq(total[8])]
        carry_lanes, carried = Signal(lanes, reset_less=True), Signal()
        may_carry = Signal()  # the oldest one: there is a part behind its own
        m.d.sync += [carry_lanes.eq(over), carried.eq(may_carry & over.any()),
                     may_carry.eq(flight[3].valid & (flight[3].part + 1 < d.parts))]
        behind = flight[5]  # where carries are at hand
        # LOAD waits for them, far away
        m.d.sync += [self.write_valid.eq(flight[3].valid | clear),
                     self.write_row.eq(Mux(clear, clear_row, flight[3].row))]
        m.d.comb += [
            self.write_data.eq(Mux(clearing, 0, sums)),
            carries.i.valid.eq(carried),
            carries.i.payload.row.eq(behind.row + d.part_step),
            carries.i.payload.part.eq(behind.part + 1), carries.i.payload.lanes.eq(carry_lanes),
        ]
        m.d.comb += next_alive.eq(alive + begin_token - (behind.valid & ~carried))
        m.d.sync += [alive.eq(next_alive), room_to_carry.eq(next_alive != _CARRIES)]
        m.d.sync += quiet.eq(~Cat(
            issue_key, *(s.key for s in stages), arrived, masked, level != 0, scanner.busy,
            tokens.o.valid, token.valid, *(o.valid for o in flight), carries.o.valid,
            carry.valid).any())
        return m


def _candidate(m, name, source, begins, flight, going):
    """Hold what comes from a stream until it ``begins``; return it, and whether it may.

    It may not while an addition to its row is in ``flight``. Those were compared in the cycle
    before; the youngest was ``going`` then, if it did.
    """
    held = Signal(data.StructLayout({"valid": 1, "payload": source.payload.shape()}),
                  name=f"{name}_held")
    clash = Signal(name=f"{name}_clash", reset_less=True)
    same = Signal(name=f"{name}_same", reset_less=True)
    new = source.payload
    m.d.comb += source.ready.eq(~held.valid | begins)
    with m.If(source.ready):
        m.d.sync += [held.valid.eq(source.valid), held.payload.eq(new)]
    old = held.payload
    m.d.sync += clash.eq(Mux(
        source.ready, *(Cat(o.valid & (o.row == row) for o in flight[:-1]).any()
                        for row in (new.row, old.row))))
    m.d.sync += same.eq(Mux(source.ready, new.row == going, old.row == going))
    may = held.valid & ~clash & ~(flight[0].valid & same)
    return held, may
