# SPDX-License-Identifier: Apache-2.0
"""From sums to spikes: partial sums, bias, shift, residual, neurons, outputs."""

import itertools

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.descriptor import CONV, DESCRIPTOR_WORDS, Flag
from hw.lif.neuron_array import NeuronArray
from hw.lif.writer import ResultWriter
from hw.payloads import TagLayout, descriptor_layout
from hw.presets import WORD_BITS, Preset

__all__ = ["Epilogue"]


class Epilogue(wiring.Component):
    """Takes the groups' results in turn, ``epilogue_lanes`` channels a cycle.

    The integers are those of ``docs/program.md`` (CONV): ``a`` wraps at ``sum_width`` bits (the
    compiler proves that it does not), ``s = floor(z / 2^shift)``; ``y`` outside 16 bits is
    reported.

    **Throughput** one beat a cycle, less where the writer needs more, or where a partial sum is
    still on its way. **Latency** 10 cycles.

    Members
    -------
    descriptors : In
        CONV of each context.
    result_valid, results, tags : In, arrays of groups
    take, free : Out, arrays of groups
    load_* : In
        One beat for the parameter or the residual buffer.
    write_* : Out
        To the output buffer.
    finished : Out
        A unit of context ``finished_context`` is complete.
    overflow : Out
        A residual word did not fit, in context ``overflow_context``.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        param_parts = preset.param_row_bits // preset.axi_bits
        residual_parts = preset.residual_row_bits // preset.axi_bits
        super().__init__({
            "descriptors": In(32 * DESCRIPTOR_WORDS).array(2),
            "result_valid": In(1).array(preset.groups),
            "results": In(preset.epilogue_lanes * preset.acc_width).array(preset.groups),
            "tags": In(TagLayout(preset)).array(preset.groups),
            "take": Out(1).array(preset.groups),
            "free": Out(1).array(preset.groups),
            "load_data": In(preset.axi_bits),
            "load_param": In(1),
            "load_param_beat": In(range(preset.param_rows * param_parts)),
            "load_residual": In(1),
            "load_residual_beat": In(range(preset.residual_rows * residual_parts)),
            "write_enable": Out(preset.axi_bits // preset.epilogue_lanes).array(preset.out_banks),
            "write_row": Out(range(preset.out_rows)).array(preset.out_banks),
            "write_data": Out(preset.axi_bits).array(preset.out_banks),
            "finished": Out(1),
            "finished_context": Out(1),
            "overflow": Out(1),
            "overflow_context": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        preset = self._preset
        groups, lanes, parts = preset.groups, preset.epilogue_lanes, preset.beats_per_tile
        width = preset.sum_width
        views = []
        for context in range(2):
            view = Signal(descriptor_layout(CONV), name=f"conv_{context}")
            m.d.comb += view.as_value().eq(self.descriptors[context])
            views.append(view)

        def field(context, name):
            return Mux(context, views[1][name], views[0][name])

        def wants(context, flag):
            return field(context, "flags")[exact_log2(int(flag))]

        tag_layout = TagLayout(preset)
        item_layout = data.StructLayout({
            "valid": 1, "group": range(groups), "part": range(max(2, parts)), "first": 1,
            "values": 1, "last": 1, "psum": len(Signal(tag_layout).psum),
            "residual": len(Signal(tag_layout).residual), "word": len(Signal(tag_layout).word),
            "value": len(Signal(tag_layout).value), "context": 1})
        item = [Signal(item_layout, name=f"item_e{n}") for n in range(11)]
        move = Signal()

        # e0: hold one group's result until all its parts (and repeats) are taken
        candidates, turn, chosen = Signal(groups), Signal(groups, init=1), Signal(groups)
        holding = Signal()
        holder = Signal(groups)
        part, repeat = Signal(range(max(2, parts))), Signal(8)
        word = Signal.like(item[0].word)
        lowest = Signal(2 * groups)
        m.d.comb += candidates.eq(Cat(self.result_valid))
        doubled = Cat(candidates, candidates)
        m.d.comb += [lowest.eq(doubled & ~(doubled - turn)),
                     chosen.eq(lowest[:groups] | lowest[groups:])]
        now = Signal(groups)
        m.d.comb += now.eq(Mux(holding, holder, chosen))
        tag = Signal(tag_layout)
        result = Signal(lanes * preset.acc_width)
        group_index = Signal(range(groups))
        for group in range(groups):
            with m.If(now[group]):
                m.d.comb += [tag.eq(self.tags[group]), result.eq(self.results[group]),
                             group_index.eq(group)]
        context = tag.context
        keeps = Signal()  # the sum stays a partial sum
        m.d.comb += keeps.eq(wants(context, Flag.PSUM_OUT))
        repeats = Signal(8)
        m.d.comb += repeats.eq(Mux(keeps, 1, field(context, "repeat")))
        psum_row = Signal.like(tag.psum)
        m.d.comb += psum_row.eq(tag.psum + part)
        late = Signal()  # the partial sum wanted is still on its way
        m.d.comb += late.eq(wants(context, Flag.PSUM_IN) & Cat(
            stage.valid & wants(stage.context, Flag.PSUM_OUT) & (stage.psum == psum_row)
            for stage in item[1:4]).any())
        go = Signal()
        m.d.comb += go.eq(move & now.any() & ~late)
        last_part, last_repeat = Signal(), Signal()
        m.d.comb += [last_part.eq(part == parts - 1), last_repeat.eq(repeat == repeats - 1)]
        for group in range(groups):
            m.d.comb += [self.take[group].eq(go & now[group]),
                         self.free[group].eq(go & now[group] & last_part & last_repeat)]
        with m.If(go):
            m.d.sync += [holding.eq(~(last_part & last_repeat)), holder.eq(now),
                         turn.eq(now.rotate_left(1))]
            m.d.sync += part.eq(Mux(last_part, 0, part + 1))
            with m.If(last_part):
                m.d.sync += [repeat.eq(Mux(last_repeat, 0, repeat + 1)),
                             word.eq(word + field(context, "word_time_step"))]
                with m.If(repeat == 0):
                    m.d.sync += word.eq(tag.word + field(context, "word_time_step"))
        m.d.comb += [
            item[0].valid.eq(go), item[0].group.eq(group_index), item[0].part.eq(part),
            item[0].first.eq(tag.first & (repeat == 0)), item[0].values.eq(repeat == 0),
            item[0].last.eq(last_part & last_repeat), item[0].psum.eq(psum_row),
            item[0].residual.eq(tag.residual + part),
            item[0].word.eq(Mux(repeat == 0, tag.word, word)), item[0].value.eq(tag.value),
            item[0].context.eq(context),
        ]
        with m.If(move):
            m.d.sync += [b.eq(a) for a, b in itertools.pairwise(item)]

        # e1: addresses; e2, e3: partial sums, residual words and parameters come
        psums = Memory(shape=unsigned(width * lanes), depth=preset.psum_rows, init=[])
        m.submodules.psums = psums
        psum_write, psum_read = psums.write_port(), psums.read_port()
        psum = self._registered(m, "psum", psum_read, move, item[1].psum)
        residual_read = self._loaded(m, "residuals", preset.residual_rows,
                                     preset.residual_row_bits, self.load_residual,
                                     self.load_residual_beat)
        residual = self._registered(m, "residual", residual_read, move, item[1].residual)
        param_read = self._loaded(m, "params", preset.param_rows, preset.param_row_bits,
                                  self.load_param, self.load_param_beat)
        param = self._registered(m, "param", param_read, move,
                                 field(item[1].context, "param_base") + item[1].part)
        sums = [Signal(lanes * preset.acc_width, name=f"sums_e{n}") for n in range(1, 4)]
        with m.If(move):
            m.d.sync += sums[0].eq(result)
            m.d.sync += [b.eq(a) for a, b in itertools.pairwise(sums)]

        m.submodules.neurons = neurons = NeuronArray(preset)
        m.submodules.writer = writer = ResultWriter(preset)
        new_psum = Signal(width * lanes)
        overflow = Signal(lanes)
        for lane in range(lanes):
            self._lane(m, lane, item, move, sums[2], psum, residual, param, wants, new_psum,
                       overflow, neurons, writer)
        m.d.comb += [
            psum_write.addr.eq(item[4].psum), psum_write.data.eq(new_psum),
            psum_write.en.eq(move & item[4].valid & wants(item[4].context, Flag.PSUM_OUT)),
            neurons.enable.eq(move),
            neurons.valid.eq(item[8].valid & wants(item[8].context, Flag.OUT_SPIKES)
                             & ~wants(item[8].context, Flag.PSUM_OUT)),
            neurons.first.eq(item[8].first),
            neurons.address.eq(Cat(item[8].part[:exact_log2(parts)], item[8].group)),
        ]
        final = item[10]
        final_keeps = wants(final.context, Flag.PSUM_OUT)
        for context in range(2):
            m.d.comb += writer.descriptors[context].eq(self.descriptors[context])
        m.d.comb += [
            writer.context.eq(final.context), writer.valid.eq(final.valid & ~final_keeps),
            writer.part.eq(final.part), writer.word.eq(final.word), writer.value.eq(final.value),
            writer.write_values.eq(final.values), writer.spikes.eq(neurons.spikes),
            move.eq(~final.valid | final_keeps | writer.ready),
            self.finished.eq(move & final.valid & final.last),
            self.finished_context.eq(final.context),
            self.overflow.eq(item[8].valid & overflow.any()
                             & wants(item[8].context, Flag.OUT_RESIDUAL)
                             & ~wants(item[8].context, Flag.PSUM_OUT)),
            self.overflow_context.eq(item[8].context),
        ]
        for bank in range(preset.out_banks):
            for name in ("write_enable", "write_row", "write_data"):
                m.d.comb += getattr(self, name)[bank].eq(getattr(writer, name)[bank])
        return m

    def _lane(self, m, lane, item, move, sums, psum, residual, param, wants, new_psum, overflow,
              neurons, writer):
        """Add the datapath of one lane: e3 to e10."""
        preset = self._preset
        width = preset.sum_width

        def register(name, value, shape):
            signal = Signal(shape, name=f"{name}_{lane}")
            with m.If(move):
                m.d.sync += signal.eq(value)
            return signal

        acc = sums[preset.acc_width * lane:preset.acc_width * (lane + 1)].as_signed()
        old = psum[width * lane:width * (lane + 1)].as_signed()
        stream_in = residual[16 * lane:16 * (lane + 1)].as_signed()
        bias = param[64 * lane:64 * lane + 28].as_signed()
        threshold = param[64 * lane + 28:64 * lane + 56].as_signed()
        shift = param[64 * lane + 56:64 * lane + 62].as_signed()

        context = item[3].context
        a = register("a", acc + Mux(wants(context, Flag.PSUM_IN), old, 0)
                     + Mux(wants(context, Flag.RESIDUAL_SUM), stream_in, 0), signed(width))
        bias_e4 = register("bias_e4", bias, signed(width))
        amount_e4 = register("amount_e4", shift + 8, unsigned(5))
        m.d.comb += new_psum[width * lane:width * (lane + 1)].eq(a)

        z = register("z", a + bias_e4, signed(width))
        amount = register("amount", amount_e4, unsigned(5))
        coarse = register("coarse", (z << 8) >> Cat(C(0, 3), amount[3:]), signed(width + 8))
        fine_amount = register("fine_amount", amount[:3], unsigned(3))
        s = register("s_e7", coarse >> fine_amount, signed(width + 8))
        pipe = {}
        for name, first, last, value, shape in (
                ("residual", 4, 7, stream_in, signed(16)),
                ("threshold", 4, 8, threshold, signed(width)),
                ("z", 6, 7, z, signed(width))):
            for stage in range(first, last + 1):
                value = register(f"{name}_e{stage}", value, shape)
            pipe[name] = value

        context = item[7].context
        y = Signal(signed(width + 9), name=f"y_{lane}")
        m.d.comb += y.eq(s + Mux(wants(context, Flag.RESIDUAL_IN), pipe["residual"], 0))
        y_e8 = register("y_e8", y, signed(16))
        with m.If(move):
            m.d.sync += overflow[lane].eq(y[15:] != y[15].replicate(len(y) - 15))
        n = register("n", Mux(wants(context, Flag.STREAM), y, pipe["z"]), signed(width))
        m.d.comb += [neurons.current[lane].eq(n), neurons.threshold[lane].eq(pipe["threshold"])]
        s_out, y_out = s, y_e8
        for stage in (8, 9, 10):
            s_out = register(f"s_e{stage}", s_out, signed(WORD_BITS))
        for stage in (9, 10):
            y_out = register(f"y_e{stage}", y_out, signed(16))
        m.d.comb += [writer.shifted[lane].eq(s_out), writer.stream[lane].eq(y_out)]

    @staticmethod
    def _registered(m, name, port, move, address):
        """Read ``port`` at ``address``; return its data two moves later."""
        held = Signal(len(port.data), name=f"{name}_held")
        m.d.comb += [port.addr.eq(address), port.en.eq(move)]
        with m.If(move):
            m.d.sync += held.eq(port.data)
        return held

    def _loaded(self, m, name, rows, row_bits, load, beat):
        """Add a memory written in beats; return its read port."""
        bits = self._preset.axi_bits
        parts = row_bits // bits
        memory = Memory(shape=unsigned(row_bits), depth=rows, init=[])
        m.submodules[name] = memory
        write = memory.write_port(granularity=bits)
        part_bits = exact_log2(parts)
        m.d.comb += [
            write.addr.eq(beat[part_bits:]), write.data.eq(self.load_data.replicate(parts)),
            write.en.eq(Mux(load, 1 << beat[:part_bits] if part_bits else 1, 0)),
        ]
        return memory.read_port()
