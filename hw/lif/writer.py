# SPDX-License-Identifier: Apache-2.0
"""Writes an epilogue beat into the output buffer."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.contexts import Contexts
from hw.descriptor import DESCRIPTOR_WORDS, Flag
from hw.lif.digits import naf
from hw.lif.plan import BeatPlan
from hw.mux import select
from hw.presets import INTEGER_BITS, LEVEL_BITS, WORD_BITS, Preset

__all__ = ["ResultWriter"]


class ResultWriter(wiring.Component):
    """Places the outputs of one beat (``epilogue_lanes`` channels of a result).

    In this order, as the flags ask: the residual words (one cycle), the raw words (two: lower, then
    upper halves), the spike word (one), the planes of digits or levels (``out_banks`` a cycle). A
    plane of digits is two words side by side, the +1 and the -1 digits of a position; the word's
    address is even then. Of these words only the beat's bits are written; with FILL the tile's last
    beat clears the bits above. A beat takes as many cycles as ``hw.lif.plan.BeatPlan`` says; no
    other may come meanwhile.

    **Latency** 2 cycles to the write; **throughput** a beat in as many cycles as above.

    Members
    -------
    descriptors : In
    valid : In
        A beat; all other inputs are taken with it.
    next_context : In
        Of the beat that may come in the next cycle.
    context, part, last : In
        ``last``: the final beat of its result.
    word, value : In
        Word address of the result's spikes or digits, beat address of the result's values.
    write_values : In
        0 on repeats: values are written once.
    values : In
        y, 16 bits a lane; with OUT_INTEGER the lower 12 are s, aligned to the top.
    upper : In
        Bits 16 and up of z, for raw words.
    spikes : In
    levels : In
        With OUT_LEVELS.
    write_enable, write_row, write_data : Out
        See OutBuffer.
    finished, finished_context : Out
        The last beat of a result is in the output buffer (or need not be).
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        lanes = preset.epilogue_lanes
        super().__init__({
            "descriptors": In(32 * DESCRIPTOR_WORDS).array(2),
            "valid": In(1),
            "next_context": In(1),
            "context": In(1),
            "part": In(range(max(2, preset.beats_per_tile))),
            "last": In(1),
            "word": In(range(preset.out_beats * preset.beat_words)),
            "value": In(range(preset.out_beats)),
            "write_values": In(1),
            "values": In(signed(16)).array(lanes),
            "upper": In(signed(preset.sum_width - 16)).array(lanes),
            "spikes": In(lanes),
            "levels": In(LEVEL_BITS).array(lanes),
            "write_enable": Out(preset.axi_bits // lanes).array(preset.out_banks),
            "write_row": Out(range(preset.out_rows)).array(preset.out_banks),
            "write_data": Out(preset.axi_bits).array(preset.out_banks),
            "finished": Out(1),
            "finished_context": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        contexts = Contexts(m, self.descriptors)
        beat = {}  # the beat at hand
        for name in ("context", "part", "last", "word", "write_values", "spikes"):
            beat[name] = Signal.like(getattr(self, name), name=f"beat_{name}", reset_less=True)
            with m.If(self.valid):
                m.d.sync += beat[name].eq(getattr(self, name))
        # digits beyond the width of an integer output are not even kept
        def held(name, value):
            register = Signal.like(value, name=f"beat_{name}", reset_less=True)
            with m.If(self.valid):
                m.d.sync += register.eq(value)
            return register

        flags = {flag: held(flag.name.lower(), contexts.flag(self.context, flag)) for flag in (
            Flag.PSUM_OUT, Flag.OUT_SPIKES, Flag.OUT_RAW, Flag.OUT_INTEGER, Flag.FILL)}
        has_planes = held("has_planes", _writes_planes(contexts, self.context))
        def ahead(name, value):
            """Return a register of what ``next_context`` says: a beat's lanes wait for it."""
            register = Signal(len(value), name=f"ahead_{name}", reset_less=True)
            m.d.sync += register.eq(value)
            return register

        mask = ahead("mask", contexts.derived(
            self.next_context, "digit_mask", 16, lambda view: Cat(
                (view.integer_bits > INTEGER_BITS - 1 - bit)
                | ~contexts.wants(view, Flag.OUT_INTEGER) for bit in range(16))))
        values = [Signal(signed(16), name=f"masked_{lane}")
                  for lane in range(preset.epilogue_lanes)]
        m.d.comb += [masked.eq(value & mask)
                     for masked, value in zip(values, self.values, strict=True)]
        beat["values"] = [held(f"values_{lane}", value) for lane, value in enumerate(values)]
        beat["upper"] = [held(f"upper_{lane}", value) for lane, value in enumerate(self.upper)]

        # its steps: values, spikes, planes
        context = beat["context"]
        plan = BeatPlan(m, contexts, preset)
        active, last_step, upper = Signal(), Signal(), Signal()
        left = Signal(5)  # steps behind this one
        is_values, is_spikes, is_planes = Signal(), Signal(), Signal()
        plane_step = Signal(range(-(-INTEGER_BITS // preset.out_banks)))
        keeps = flags[Flag.PSUM_OUT]

        def begin(values, spikes, planes):
            """Return the phase of the first step, when ``values`` says if it writes values."""
            return [is_values.eq(values), is_spikes.eq(~values & spikes),
                    is_planes.eq(~values & ~spikes & planes)]

        with m.If(self.valid):
            cycles_last = Mux(self.context, *plan.cycles_last[::-1])
            m.d.sync += [
                active.eq(1), left.eq(cycles_last - 1), last_step.eq(cycles_last == 0),
                plane_step.eq(0), upper.eq(0),
                *begin(Mux(self.context, *plan.values[::-1]).any(),
                       contexts.flag(self.context, Flag.OUT_SPIKES),
                       _writes_planes(contexts, self.context))]
        with m.Else():
            m.d.sync += [left.eq(left - 1), last_step.eq(left == 0),
                         plane_step.eq(plane_step + is_planes)]
            with m.If(last_step):
                m.d.sync += active.eq(0)
            with m.If(is_values):
                m.d.sync += [upper.eq(1), *begin(
                    flags[Flag.OUT_RAW] & ~upper, flags[Flag.OUT_SPIKES], has_planes)]
            with m.Elif(is_spikes):
                m.d.sync += [is_spikes.eq(0), is_planes.eq(has_planes)]
        writes = Signal()
        m.d.comb += writes.eq(active & ~keeps)
        m.d.sync += [self.finished.eq(active & last_step & beat["last"]),
                     self.finished_context.eq(context)]

        # values lie on multiples of their beats, so that a bank always takes the same ones
        value_beats = preset.residual_row_bits // preset.axi_bits
        index = _times(self.part, value_beats)
        raw = ahead("raw", contexts.flag(self.next_context, Flag.OUT_RAW))
        beat["value"] = Signal.like(self.value, name="beat_value", reset_less=True)
        with m.If(self.valid):
            m.d.sync += beat["value"].eq(self.value + Mux(raw, index << 1, index))
        with m.Elif(is_values):  # the upper halves of raw sums
            m.d.sync += beat["value"].eq(beat["value"] + value_beats)

        # what each bank is to write, and where
        offset = contexts.field(self.context, "out_bit") + _times(
            self.part, preset.epilogue_lanes)
        beat["slot"] = held("slot", offset[
            exact_log2(preset.epilogue_lanes):exact_log2(WORD_BITS)])
        beat["plane_rows"] = held("plane_rows", contexts.field(self.context, "plane_rows"))
        # a beat may last longer than its planes: none are left then
        planes_left = Signal(5, reset_less=True)
        with m.If(self.valid):
            m.d.sync += planes_left.eq(Mux(self.context, *plan.planes[::-1]))
        with m.Elif(is_planes):
            m.d.sync += planes_left.eq(Mux(
                planes_left > preset.out_banks, planes_left - preset.out_banks, 0))
        row, enables = self._places(
            m, beat, flags, writes, is_values, is_spikes, is_planes, plane_step, planes_left)
        lanes, banks = preset.epilogue_lanes, preset.out_banks
        digits = self._digits(m, values)
        ones, level_bits, integer = (ahead(name, value) for name, value in (
            ("ones", contexts.flag(self.next_context, Flag.ONES)),
            ("level_bits", contexts.field(self.next_context, "level_bits")[:3]),
            ("integer", contexts.flag(self.next_context, Flag.OUT_INTEGER))))
        levels = self._level_planes(m, ones, level_bits, self.levels)
        payload = []  # of the words of even and of odd address, by bank
        for parity, planes in enumerate(digits):
            for number, plane in enumerate(levels):
                planes[number] = Mux(integer, planes[number], plane)
            planes = [held(f"plane_{parity}_{n}", plane) for n, plane in enumerate(planes)]
            groups = [Cat(planes[n:n + banks]) for n in range(0, len(planes), banks)]
            chunk = Signal(lanes * banks, name=f"chunk_{parity}")
            m.d.comb += chunk.eq(select(plane_step, groups))
            payload.append([Signal(lanes, name=f"payload_{parity}_{n}", reset_less=True)
                            for n in range(banks)])
            m.d.sync += [word.eq(Mux(is_planes, chunk.word_select(n, lanes), beat["spikes"]))
                         for n, word in enumerate(payload[-1])]
        value_row = Signal(16 * lanes, reset_less=True)
        from_values = Signal(reset_less=True)
        m.d.sync += [
            from_values.eq(is_values),
            value_row.eq(Cat(
                Mux(upper, Cat(high, high[-1].replicate(32 - preset.sum_width)), low.as_unsigned())
                for low, high in zip(beat["values"], beat["upper"], strict=True))),
        ]
        slots = Signal(WORD_BITS // lanes, reset_less=True)  # one-hot: the beat's bits in a word
        m.d.sync += slots.eq(1 << beat["slot"])
        for bank in range(banks):
            pair = Cat(Mux(slot, words[bank], 0) for words in payload for slot in slots)
            part = bank % value_beats
            m.d.comb += [
                self.write_data[bank].eq(Mux(
                    from_values, value_row.word_select(part, preset.axi_bits),
                    pair.replicate(preset.beat_words // 2))),
                self.write_row[bank].eq(row[bank]), self.write_enable[bank].eq(enables[bank]),
            ]
        return m

    def _places(self, m, beat, flags, writes, is_values, is_spikes, is_planes, plane_step,
                planes_left):
        """Return registered rows and enables of the banks."""
        preset = self._preset
        lanes, banks = preset.epilogue_lanes, preset.out_banks
        bank_bits, word_bits = exact_log2(banks), exact_log2(preset.beat_words)
        value_beats = preset.residual_row_bits // preset.axi_bits
        rows = [Signal(range(preset.out_rows), name=f"row_{n}", reset_less=True)
                for n in range(banks)]
        enables = [Signal(preset.axi_bits // lanes, name=f"enable_{n}") for n in range(banks)]

        value = beat["value"]
        spike_beat = beat["word"][word_bits:]
        # planes take turns in the banks: plane p is in bank p % banks
        plane_rows, slot = beat["plane_rows"], beat["slot"]
        plane_row = Signal(range(preset.out_rows))
        base, offset = spike_beat, Signal(range(preset.out_rows), reset_less=True)
        m.d.comb += plane_row.eq(base + Mux(plane_step == 0, 0, offset))
        with m.If(is_planes):
            m.d.sync += offset.eq(Mux(plane_step == 0, 0, offset) + plane_rows)

        per_word = WORD_BITS // lanes
        fills = flags[Flag.FILL] & (beat["part"] == preset.beats_per_tile - 1)
        in_word = Signal(per_word)
        word_enable = Signal(preset.axi_bits // lanes)
        pair = is_planes & flags[Flag.OUT_INTEGER]  # both words of a pair
        m.d.comb += [
            in_word.eq(Mux(fills, (1 << per_word) - 1, 1) << slot),
            word_enable.eq(Cat(Mux(beat["word"][:word_bits] | pair == n | pair, in_word, 0)
                               for n in range(preset.beat_words))),
        ]
        for bank in range(banks):
            here = value[:bank_bits] >> exact_log2(value_beats) == bank // value_beats
            more = planes_left > bank
            m.d.sync += [
                rows[bank].eq(Mux(is_values, value[bank_bits:],
                                  Mux(is_planes, plane_row, spike_beat[bank_bits:]))),
                enables[bank].eq(Mux(
                    writes & is_values & beat["write_values"] & here, ~0, Mux(
                        writes & ((is_planes & more)
                                  | (is_spikes & (spike_beat[:bank_bits] == bank))),
                        word_enable, 0))),
            ]
        return rows, enables

    def _digits(self, m, values):
        """Return the planes of all lanes' +1 digits and of their -1 digits, highest first."""
        planes = [[Signal(len(values), name=f"plane_{sign}_{n}") for n in range(INTEGER_BITS)]
                  for sign in range(2)]
        for lane, value in enumerate(values):
            for sign, digits in enumerate(naf(value[:INTEGER_BITS], INTEGER_BITS)):
                for position in range(INTEGER_BITS):
                    plane = planes[sign][INTEGER_BITS - 1 - position]
                    m.d.comb += plane[lane].eq(digits[position])
        return planes

    def _level_planes(self, m, ones, bits, values):
        """Return the planes of all lanes' levels: ones first, or binary from the highest bit."""
        planes = [Signal(len(values), name=f"level_plane_{n}") for n in range(1 << LEVEL_BITS - 1)]
        for lane, level in enumerate(values):
            binary = [Mux(bits == 4, level[3 - n], Mux(bits == 3, level[max(2 - n, 0)], Mux(
                bits == 2, level[max(1 - n, 0)], level[0]))) for n in range(LEVEL_BITS)]
            for number, plane in enumerate(planes):
                rest = binary[number] if number < LEVEL_BITS else 0
                m.d.comb += plane[lane].eq(Mux(ones, level > number, rest))
        return planes


def _writes_planes(contexts, context):
    """Return whether the context writes planes of digits or levels."""
    return contexts.flag(context, Flag.OUT_INTEGER) | contexts.flag(context, Flag.OUT_LEVELS)


def _times(value, factor):
    """Return ``value * factor`` for a power of two."""
    return value << exact_log2(factor)
