# SPDX-License-Identifier: Apache-2.0
"""From sums to spikes: partial sums, bias, shift, residual, neurons, outputs."""

import itertools

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.contexts import Contexts
from hw.descriptor import DESCRIPTOR_WORDS, Flag
from hw.lif.level_array import LevelArray
from hw.lif.neuron_array import NeuronArray
from hw.lif.result_arbiter import ResultArbiter
from hw.lif.result_collector import ResultCollector
from hw.lif.writer import ResultWriter
from hw.memory import block_memory, block_read
from hw.payloads import TagLayout
from hw.presets import LEVEL_BITS, PARAM_BITS, SHIFTED_BITS, STEP_BITS, Preset

__all__ = ["Epilogue"]

_SHIFT_LOW = 8
"""Shifts begin at -8."""

_LAST = 13
"""Stage in which a beat enters the writer."""


class Epilogue(wiring.Component):
    """Takes the groups' results in turn, ``epilogue_lanes`` channels a cycle.

    The integers are those of ``docs/program.md`` (CONV): ``a`` wraps at ``sum_width`` bits and
    ``s = floor(z / 2^shift)`` at SHIFTED_BITS (the compiler proves that they do not); ``y`` outside
    16 bits is reported. Nothing in the pipeline ever waits: the arbiter issues beats only as fast
    as the writer takes them.

    **Throughput** as many cycles a beat as ``hw.lif.plan.BeatPlan`` says. **Latency** 21 cycles
    from a result to its first write.

    Members
    -------
    descriptors : In
        CONV of each context; holds from before its first result to behind its last write.
    result_valid : In, one bit a group
        The group offers a result, and holds it until it is freed.
    results : In, array of groups
        ``lanes`` sums of ``acc_width`` bits, lane 0 lowest, two's complement.
    result_contexts : In, one bit a group
        The context that the result belongs to.
    tag_group : Out
        The group whose tag is asked for.
    tag : In
        Its oldest tag, a cycle later.
    free : Out, one bit a group
        Strobe: the oldest result and tag of the group are done with.
    load_data : In
        One beat for the parameter or the residual buffer.
    load_param, load_residual : In
        Strobe: write the beat to this buffer.
    load_param_beat, load_residual_beat : In
        Where to.
    write_enable : Out, array of banks
        To the output buffer: one bit for each ``epilogue_lanes`` bits of the data.
    write_row, write_data : Out, arrays of banks
        To the output buffer: row and content of a beat.
    finished : Out
        Strobe: the last write of a result is being made.
    finished_context : Out
        The context of that result.
    overflow : Out
        Strobe: a residual word did not fit 16 bits.
    overflow_context : Out
        The context of that word.
    """

    def __init__(self, preset: Preset):
        self._preset = preset
        groups = preset.groups
        param_parts = preset.param_row_bits // preset.axi_bits
        residual_parts = preset.residual_row_bits // preset.axi_bits
        super().__init__({
            "descriptors": In(32 * DESCRIPTOR_WORDS).array(2),
            "result_valid": In(groups),
            "results": In(preset.lanes * preset.acc_width).array(groups),
            "result_contexts": In(groups),
            "tag_group": Out(range(groups)),
            "tag": In(TagLayout(preset)),
            "free": Out(groups),
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
        contexts = Contexts(m, self.descriptors)
        m.submodules.arbiter = arbiter = ResultArbiter(preset)
        m.submodules.neurons = neurons = NeuronArray(preset)
        m.submodules.levels = levels = LevelArray(preset)
        m.submodules.writer = writer = ResultWriter(preset)
        for index in range(2):
            m.d.comb += [arbiter.descriptors[index].eq(self.descriptors[index]),
                         writer.descriptors[index].eq(self.descriptors[index])]
        m.d.comb += [arbiter.valid.eq(self.result_valid), self.free.eq(arbiter.free),
                     arbiter.contexts.eq(self.result_contexts),
                     self.tag_group.eq(arbiter.next_group)]

        items, valid, sums = self._take(m, contexts, arbiter)

        def ahead(stage, value):
            """Return ``value`` of a stage's context, found in the stage before: a register."""
            value = value(items[stage - 1])
            register = Signal.like(value, name=f"ahead_{stage}", reset_less=True)
            m.d.sync += register.eq(value)
            return register

        def flag(stage, flag):
            return ahead(stage, lambda item: contexts.flag(item.context, flag))

        address_bits = exact_log2(preset.param_rows)
        memories = self._read(m, items, lambda stage: ahead(stage, lambda item: (
            contexts.field(item.context, "param_base") + item.part)[:address_bits]))
        flags = {key: flag(*key) for key in (
            (2, Flag.RESIDUAL_SUM), (3, Flag.PSUM_IN), (7, Flag.STREAM))}
        flags["no residual"] = ahead(
            5, lambda item: ~contexts.flag(item.context, Flag.RESIDUAL_IN))
        lanes = [self._lane(m, flags, lane, sums, memories)
                 for lane in range(preset.epilogue_lanes)]
        new_psum, overflow = Cat(lane["a"] for lane in lanes), Cat(lane["over"] for lane in lanes)

        late = items[4]
        m.d.comb += [
            memories["psum_write"].addr.eq(late.psum), memories["psum_write"].data.eq(new_psum),
        ]
        item = items[7]
        keeps = flag(7, Flag.PSUM_OUT)
        # whole memories wait for these two
        m.d.sync += [
            memories["psum_write"].en.eq(
                valid[3] & contexts.flag(items[3].context, Flag.PSUM_OUT)),
            neurons.valid.eq(valid[6] & ~contexts.flag(items[6].context, Flag.PSUM_OUT)),
        ]
        m.d.sync += [self.overflow_context.eq(item.context), self.overflow.eq(
            valid[7] & ~keeps & overflow.any() & flag(7, Flag.OUT_RESIDUAL))]
        m.d.comb += [
            neurons.first.eq(item.first),
            neurons.address.eq(Cat(item.part[:exact_log2(preset.beats_per_tile)], item.group)),
        ]
        for name in ("level_bits", "ties_even"):
            m.d.comb += getattr(levels, name).eq(ahead(
                7 + LEVEL_BITS, lambda item, name=name: contexts.field(item.context, name)))
        spikes = neurons.spikes
        for stage in range(9, _LAST):
            now = Signal.like(spikes, name=f"spikes_{stage + 1}", reset_less=True)
            m.d.sync += now.eq(spikes)
            spikes = now
        item = items[_LAST]
        m.d.comb += [
            writer.valid.eq(valid[_LAST]), writer.context.eq(item.context),
            writer.next_context.eq(items[_LAST - 1].context),
            writer.part.eq(item.part), writer.last.eq(item.last), writer.word.eq(item.word),
            writer.value.eq(item.value), writer.write_values.eq(item.values),
            writer.spikes.eq(spikes), self.finished.eq(writer.finished),
            self.finished_context.eq(writer.finished_context),
        ]
        for index, lane in enumerate(lanes):
            m.d.comb += [
                neurons.current[index].eq(lane["n"]),
                neurons.threshold[index].eq(lane["threshold"]),
                levels.current[index].eq(lane["n"]), levels.step[index].eq(lane["step"]),
                levels.threshold[index].eq(lane["level_threshold"]),
                writer.levels[index].eq(levels.levels[index]),
                writer.values[index].eq(lane["y"]), writer.upper[index].eq(lane["upper"]),
            ]
        for bank in range(preset.out_banks):
            for name in ("write_enable", "write_row", "write_data"):
                m.d.comb += getattr(self, name)[bank].eq(getattr(writer, name)[bank])
        return m

    def _take(self, m, contexts, arbiter):
        """Choose the beat's sums and tag; return items and valid bits of stages 0 to _LAST, and
        the sums of stage 2."""
        preset = self._preset
        parts = preset.beats_per_tile
        tag = Signal(TagLayout(preset))
        layout = data.StructLayout({
            "group": len(arbiter.group), "part": len(arbiter.part), "context": 1,
            "first": 1, "values": 1, "last": 1, "psum": len(tag.psum),
            "residual": len(tag.residual), "word": len(tag.word), "value": len(tag.value)})
        items = [Signal(layout, name=f"item_{n}", reset_less=True)
                 for n in range(_LAST + 1)]
        valid = Signal(_LAST + 1)
        m.d.comb += tag.eq(self.tag)
        # words of repeats lie one time step behind each other
        offset = Signal.like(tag.word, reset_less=True)
        step = contexts.field(arbiter.context, "word_time_step")
        with m.If(arbiter.issue & (arbiter.part == parts - 1)):
            m.d.sync += offset.eq(Mux(arbiter.last, 0, Mux(arbiter.first, 0, offset) + step))
        m.submodules.collector = collector = ResultCollector(preset)
        for name in ("issue", "group", "part"):
            m.d.comb += getattr(collector, name).eq(getattr(arbiter, name))
        m.d.comb += [collector.results[group].eq(result)
                     for group, result in enumerate(self.results)]
        early, early_valid = Signal(layout, name="item_early", reset_less=True), Signal()
        early_offset = Signal.like(offset, reset_less=True)
        m.d.sync += [
            early_valid.eq(arbiter.issue), valid.eq(Cat(early_valid, valid[:-1])),
            early.group.eq(arbiter.group), early.part.eq(arbiter.part),
            early.context.eq(arbiter.context), early.first.eq(tag.first & arbiter.first),
            early.values.eq(arbiter.first), early.last.eq(arbiter.last),
            early.psum.eq(tag.psum), early.residual.eq(tag.residual), early.word.eq(tag.word),
            early.value.eq(tag.value), early_offset.eq(Mux(arbiter.first, 0, offset)),
        ]
        m.d.sync += [b.eq(a) for a, b in itertools.pairwise([early, *items])]
        m.d.sync += [items[0].psum.eq(early.psum + early.part),
                     items[0].residual.eq(early.residual + early.part),
                     items[0].word.eq(early.word + early_offset)]
        return items, valid, collector.sums

    def _read(self, m, items, address):
        """Read what belongs to the beats; data of stage 2, thresholds and steps of stage 7."""
        preset = self._preset
        lanes = preset.epilogue_lanes
        found = {}

        def registered(name, value):
            register = Signal(len(value), name=name, reset_less=True)
            m.d.sync += register.eq(value)
            return register

        psums = block_memory(m, "psums", preset.sum_width * lanes, preset.psum_rows)
        found["psum_write"] = psums.write_port()
        found["psum"] = registered("psum", block_read(m, psums, "psum_read", items[0].psum))
        residuals = block_memory(m, "residuals", preset.residual_row_bits, preset.residual_rows)
        write = residuals.write_port(granularity=preset.axi_bits)
        enable, row, content = self._beat_registers(m, "residuals", self._beat(
            self.load_residual, self.load_residual_beat, preset.residual_row_bits))
        m.d.comb += [write.en.eq(enable), write.addr.eq(row),
                     write.data.eq(content.replicate(len(enable)))]
        found["residual"] = registered(
            "residual", block_read(m, residuals, "residual_read", items[0].residual))
        # parameters change with the tile: small memories, for different stages; a beat goes
        # from the registers of one stage to those of the other
        beat = self._beat(self.load_param, self.load_param_beat, preset.param_row_bits)
        for stage, fields in ((1, {"params": (0, (slice(0, 28), slice(56, 62)))}),
                              (6, {"thresholds": (0, (slice(28, 56),)),
                                   "steps": (1, (slice(0, STEP_BITS),))})):
            beat = self._beat_registers(m, f"param_{stage}", beat)
            for name, (word, parts) in fields.items():
                memory = self._parameters(m, name, beat, word, parts)
                port = memory.read_port(domain="comb")
                m.d.comb += port.addr.eq(address(stage))
                found[name] = registered(name, port.data)
        return found

    def _parameters(self, m, name, beat, word, parts):
        """Add a small memory of ``parts`` of a 64-bit ``word`` of each lane's parameters."""
        preset = self._preset
        enable, row, content = beat
        width = sum(part.stop - part.start for part in parts)
        m.submodules[name] = memory = Memory(
            shape=unsigned(width * preset.epilogue_lanes), depth=preset.param_rows, init=[],
            attrs={"ram_style": "block" if preset.wide_luts else "distributed"})
        write = memory.write_port(granularity=width)
        m.d.comb += write.addr.eq(row)
        for lane in range(preset.epilogue_lanes):
            first = PARAM_BITS * lane + 64 * word
            here = content[first % preset.axi_bits:]
            m.d.comb += [write.en[lane].eq(enable[first // preset.axi_bits]),
                         write.data.word_select(lane, width).eq(Cat(here[part] for part in parts))]
        return memory

    def _lane(self, m, flags, lane, sums, memories):
        """Add the datapath of one lane: stages 2 to _LAST."""
        preset = self._preset
        width, high = preset.sum_width, SHIFTED_BITS

        def register(name, value, shape):
            signal = Signal(shape, name=f"{name}_{lane}", reset_less=True)
            m.d.sync += signal.eq(value)
            return signal

        # stage 2: everything is at hand
        acc = sums[preset.acc_width * lane:preset.acc_width * (lane + 1)].as_signed()
        psum = memories["psum"][width * lane:width * (lane + 1)].as_signed()
        residual = memories["residual"][16 * lane:16 * (lane + 1)].as_signed()
        bias = memories["params"][34 * lane:34 * lane + 28].as_signed()
        amount = memories["params"][34 * lane + 28:34 * lane + 34].as_signed()
        first = register("first_3", Mux(flags[2, Flag.RESIDUAL_SUM], residual, acc),
                         signed(preset.acc_width))
        psum = register("psum_3", psum, signed(width))
        bias = register("bias_3", bias, signed(width))
        amount_3 = register("amount_3", amount + _SHIFT_LOW, unsigned(5))

        # stage 4: a; stage 5 and 6: s, but for its last shift; choices lie before the adders'
        # second operand, where a LUT of six inputs has room for them
        a = register("a", first + Mux(flags[3, Flag.PSUM_IN], psum, bias), signed(width))
        amount_4 = register("amount_4", amount_3, unsigned(5))
        coarse = register("coarse", (a << _SHIFT_LOW) >> Cat(C(0, 3), amount_4[3:]),
                          signed(high + 7))
        fine = register("fine", amount_4[:3], unsigned(3))
        s = register("s", coarse >> fine[:2], signed(high + 4))
        four = register("four", fine[2], unsigned(1))
        z = a
        for stage in (5, 6, 7):
            z = register(f"z_{stage}", z, signed(width))
        for stage in (3, 4, 5):
            residual = register(f"residual_{stage}", residual, signed(16))
        residual = register("residual_6", Mux(flags["no residual"], 0, residual),
                            signed(16))

        # stage 7: y; from there to the neuron, and to the writer in stage 9
        total = Signal(signed(high + 1), name=f"total_{lane}")
        m.d.comb += total.eq(
            residual + Mux(four, s[4:], s[:high]).as_signed())
        y = register("y_7", total, signed(16))
        over = register("over", total[15:] != total[15].replicate(high - 14), 1)
        n = Mux(flags[7, Flag.STREAM], y, z)
        upper = z[16:]
        step = memories["steps"].word_select(lane, STEP_BITS)
        threshold = level_threshold = memories["thresholds"].word_select(lane, 28).as_signed()
        for stage in (8, 9):
            threshold = register(f"threshold_{stage}", threshold, signed(28))
        for stage in range(8, _LAST + 1):
            y = register(f"y_{stage}", y, signed(16))
            upper = register(f"upper_{stage}", upper, signed(width - 16))
        return {"a": a, "over": over, "n": n, "y": y, "upper": upper, "step": step,
                "threshold": threshold, "level_threshold": level_threshold}

    def _beat(self, load, beat, row_bits):
        """Return what a beat writes: parts of the row, row, content."""
        parts = row_bits // self._preset.axi_bits
        part_bits = exact_log2(parts)
        return (Mux(load, 1 << beat[:part_bits] if part_bits else 1, 0), beat[part_bits:],
                self.load_data)

    def _beat_registers(self, m, name, beat):
        """Return registers of a beat that is to be written: parts, row, content."""
        found = []
        for what, value in zip(("enable", "row", "part"), beat, strict=True):
            found.append(Signal(len(value), name=f"{name}_{what}", reset_less=what != "enable"))
            m.d.sync += found[-1].eq(value)
        return found
