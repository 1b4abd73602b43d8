# SPDX-License-Identifier: Apache-2.0
"""Writes an epilogue beat into the output buffer."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.descriptor import CONV, DESCRIPTOR_WORDS, Flag
from hw.lif.digits import naf
from hw.payloads import descriptor_layout
from hw.presets import WORD_BITS, Preset

__all__ = ["INTEGER_BITS", "ResultWriter"]

INTEGER_BITS = 12
"""Widest integer map."""


class ResultWriter(wiring.Component):
    """Places the outputs of one beat (``epilogue_lanes`` channels of a result).

    In this order, as the flags ask: the residual words (one cycle), the raw words (two), the spike
    word (one), the digit planes (``ceil(2 * integer_bits / out_banks)``). Of spike and digit words
    only the beat's bits are written; with FILL the tile's last beat clears the bits above.

    **Throughput** one beat in as many cycles as above, at least one.

    Members
    -------
    valid, ready : stream of beats; the other inputs hold while ``valid``
    part : In
        Index of the beat in its tile.
    word, value : In
        Word address of the result's spikes / beat address of its values.
    write_values : In
        0 on repeats: values are written once.
    shifted, stream, spikes : In
        s (36 bits), y (16 bits) and the spikes of each lane.
    write_enable, write_row, write_data : see OutBuffer
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        lanes = preset.epilogue_lanes
        super().__init__({
            "descriptors": In(32 * DESCRIPTOR_WORDS).array(2),
            "context": In(1),
            "valid": In(1),
            "ready": Out(1),
            "part": In(range(max(2, preset.beats_per_tile))),
            "word": In(range(preset.out_beats * preset.beat_words)),
            "value": In(range(preset.out_beats)),
            "write_values": In(1),
            "shifted": In(signed(WORD_BITS)).array(lanes),
            "stream": In(signed(16)).array(lanes),
            "spikes": In(lanes),
            "write_enable": Out(preset.axi_bits // lanes).array(preset.out_banks),
            "write_row": Out(range(preset.out_rows)).array(preset.out_banks),
            "write_data": Out(preset.axi_bits).array(preset.out_banks),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        lanes, banks, width = preset.epilogue_lanes, preset.out_banks, preset.axi_bits
        d = Signal(descriptor_layout(CONV))
        m.d.comb += d.as_value().eq(Mux(self.context, self.descriptors[1], self.descriptors[0]))

        def wants(flag):
            return d.flags[exact_log2(int(flag))]

        # What is still to be written of this beat.
        plane_steps = -(-2 * INTEGER_BITS // banks)
        todo = Signal(4)  # residual, raw, spikes, planes
        started = Signal()
        step = Signal(range(max(2, plane_steps)))
        wanted, rest = Signal(4), Signal(4)
        m.d.comb += [
            wanted.eq(Cat(wants(Flag.OUT_RESIDUAL) & self.write_values, wants(Flag.OUT_RAW),
                          wants(Flag.OUT_SPIKES), wants(Flag.OUT_INTEGER))),
            todo.eq(Mux(started, rest, wanted)),
        ]
        now = Signal(4)
        m.d.comb += now.eq(todo & -todo)
        planes = Signal(range(2 * INTEGER_BITS + 1))
        m.d.comb += planes.eq(d.integer_bits << 1)
        phase_end = Signal()
        with m.If(now[1]):
            m.d.comb += phase_end.eq(step == 1)
        with m.Elif(now[3]):
            m.d.comb += phase_end.eq(_times(step + 1, banks) >= planes)
        with m.Else():
            m.d.comb += phase_end.eq(1)
        left = Signal(4)
        m.d.comb += left.eq(todo & ~Mux(phase_end, now, 0))
        m.d.comb += self.ready.eq(left == 0)
        with m.If(self.valid):
            m.d.sync += [started.eq(left != 0), rest.eq(left),
                         step.eq(Mux(phase_end, 0, step + 1))]

        # Digit planes, most significant position first; plane 2i: +, 2i + 1: -.
        plane_bits = [Signal(lanes, name=f"plane_{n}") for n in range(2 * INTEGER_BITS)]
        for lane in range(lanes):
            plus, minus = naf(self.shifted[lane][:INTEGER_BITS], INTEGER_BITS)
            for position in range(INTEGER_BITS):
                for sign, digits in enumerate((plus, minus)):
                    m.d.comb += plane_bits[2 * (INTEGER_BITS - 1 - position) + sign][lane].eq(
                        digits[position])
        skip = Signal(range(2 * INTEGER_BITS + 1))  # planes above the layer's width
        m.d.comb += skip.eq(2 * INTEGER_BITS - planes)
        all_planes = Signal(lanes * 2 * INTEGER_BITS)
        m.d.comb += all_planes.eq(Cat(*plane_bits))
        wanted_planes = Signal(lanes * (plane_steps * banks))
        m.d.comb += wanted_planes.eq(Array(
            all_planes[lanes * n:] for n in range(0, 2 * INTEGER_BITS, 2))[skip >> 1])

        # Source beats: k = 0 .. banks-1, at beat address base + k * stride.
        value_beats = preset.residual_row_bits // width
        base = Signal(range(preset.out_beats))
        word_beat = self.word[exact_log2(preset.beat_words):]
        lane_word = self.word[:exact_log2(preset.beat_words)]
        count = Signal(range(banks + 1))
        source = [Signal(width, name=f"source_{k}") for k in range(banks)]
        residual_row = Cat(self.stream[lane] for lane in range(lanes))
        raw_row = Cat(self.shifted[lane].as_unsigned() for lane in range(lanes))
        multiples = self._plane_multiples(m, range(banks))
        first_planes = self._plane_multiples(m, range(0, plane_steps * banks, banks))
        offset = Signal(range(WORD_BITS))
        m.d.comb += offset.eq(d.out_bit + _times(self.part, lanes))
        enables = width // lanes
        word_enable = Signal(enables)
        slot = offset >> exact_log2(lanes)
        per_word = WORD_BITS // lanes
        fills = wants(Flag.FILL) & (self.part == preset.beats_per_tile - 1)
        slots = Signal(per_word)
        m.d.comb += [
            slots.eq(Mux(fills, (1 << per_word) - 1, 1) << slot),
            word_enable.eq(slots << (lane_word << exact_log2(per_word))),
        ]
        payload = [Signal(lanes, name=f"payload_{k}") for k in range(banks)]
        for k in range(banks):
            # the beat's bits at its place in every word; zeros where the word is cleared
            bits = Signal(WORD_BITS, name=f"bits_{k}")
            m.d.comb += bits.eq(payload[k] << offset)
            m.d.comb += source[k].eq(bits.replicate(preset.beat_words))
        values = [Signal(width, name=f"values_{k}") for k in range(value_beats)]
        is_word = Signal()
        m.d.comb += is_word.eq(now[2] | now[3])
        with m.If(now[2]):
            m.d.comb += [payload[0].eq(self.spikes), base.eq(word_beat), count.eq(1)]
        with m.If(now[3]):
            chunk = Signal(lanes * banks)
            m.d.comb += chunk.eq(_parts(wanted_planes, lanes * banks)[step])
            for k in range(banks):
                m.d.comb += payload[k].eq(chunk[lanes * k:lanes * (k + 1)])
            m.d.comb += [base.eq(word_beat + Array(first_planes)[step]), count.eq(banks)]
            with m.If(_times(step + 1, banks) > planes):
                m.d.comb += count.eq(planes - _times(step, banks))
        part_beats = _times(self.part, value_beats)
        with m.If(now[0]):
            m.d.comb += [base.eq(self.value + part_beats), count.eq(value_beats)]
            for k in range(value_beats):
                m.d.comb += values[k].eq(residual_row[width * k:width * (k + 1)])
        with m.If(now[1]):
            m.d.comb += [base.eq(self.value + (part_beats << 1) + Mux(step[0], value_beats, 0)),
                         count.eq(value_beats)]
            half = Mux(step[0], raw_row[width * value_beats:], raw_row[:width * value_beats])
            for k in range(value_beats):
                m.d.comb += values[k].eq(half[width * k:width * (k + 1)])

        # Bank j takes source k = j - base (modulo banks).
        bank_bits = exact_log2(banks)
        for bank in range(banks):
            k = Signal(bank_bits, name=f"k_{bank}")
            m.d.comb += k.eq(bank - base[:bank_bits])
            with m.Switch(k):
                for index in range(banks):
                    with m.Case(index):
                        address = base + Mux(now[3], multiples[index], index)
                        enable = self.valid & (count > index)
                        value = values[index] if index < value_beats else Const(0, width)
                        m.d.comb += [
                            self.write_row[bank].eq(address[bank_bits:]),
                            self.write_data[bank].eq(Mux(is_word, source[index], value)),
                            self.write_enable[bank].eq(Mux(
                                enable & (now != 0), Mux(is_word, word_enable, ~0), 0)),
                        ]
        return m

    def _plane_multiples(self, m, factors):
        """Return ``factor * plane_beats`` for each factor, from registers of each context."""
        multiples = []
        for factor in factors:
            sums = []
            for context in range(2):
                view = Signal(descriptor_layout(CONV), name=f"planes_{factor}_{context}")
                m.d.comb += view.as_value().eq(self.descriptors[context])
                sums.append(Signal(range(self._preset.out_beats),
                                   name=f"multiple_{factor}_{context}"))
                m.d.sync += sums[-1].eq(sum(
                    (view.plane_beats << bit for bit in range(factor.bit_length())
                     if factor >> bit & 1), Const(0)))
            multiples.append(Mux(self.context, sums[1], sums[0]))
        return multiples


def _parts(value, width):
    """Return ``value`` as an array of parts of ``width`` bits."""
    return Array(value[n:n + width] for n in range(0, len(value), width))


def _times(value, factor):
    """Return ``value * factor`` for a power of two."""
    return value << exact_log2(factor)

