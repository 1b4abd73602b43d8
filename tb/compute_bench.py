# SPDX-License-Identifier: Apache-2.0
"""Runs descriptors on the compute unit in Amaranth's simulator, and on the functional simulator."""

import numpy as np
from amaranth.sim import Simulator

from hw.compute import Compute
from hw.descriptor import FORMATS, Opcode, Target
from hw.presets import Preset
from sw.isa import compute as isa

__all__ = ["BUFFERS", "Bench"]

BUFFERS = {"map": Target.MAP, "weight": Target.WEIGHT, "param": Target.PARAM,
            "residual": Target.RESIDUAL}


class Bench:
    """A list of descriptors and buffer contents; ``run`` returns both sides' output buffers."""

    def __init__(self, preset: Preset, seed: int):
        self.preset = preset
        self.buffers = isa.Buffers(preset, seed)
        self.buffers.beats["out"][:] = 0
        self.used = dict.fromkeys(BUFFERS, 0)  # beats of each buffer that matter
        self.descriptors: list[dict[str, int]] = []

    def add(self, opcode: Opcode, **fields: int) -> None:
        """Append a descriptor; it posts semaphore ``index % 16``."""
        post = 1 << len(self.descriptors) % 16
        self.descriptors.append({"opcode": opcode, "post": post, **fields})

    def expected(self) -> np.ndarray:
        """Run the descriptors on the functional simulator; return its output buffer, in beats."""
        for fields in self.descriptors:
            layout = FORMATS[fields["opcode"]]
            values = layout.unpack(layout.pack(**fields))
            counts = {"rows_added": 0, "words": 0, "zero_words": 0}
            run = isa.conv if fields["opcode"] is Opcode.CONV else isa.key_value
            run(self.preset, self.buffers, values, counts)
        return self.buffers.beats["out"]

    def run(self, limit: int = 50000) -> tuple[np.ndarray, np.ndarray, int]:
        """Return the output buffers (beats) of hardware and functional simulator, and cycles."""
        preset = self.preset
        loads = {name: self.buffers.beats[name][:used].copy() for name, used in self.used.items()}
        want = self.expected()
        dut = Compute(preset)
        result = want.copy()
        # what must have been written, and a sample of what must not
        sample = np.random.default_rng(0).integers(0, len(want), 40)
        beats = np.union1d(np.flatnonzero(want.any(1)), sample).tolist()
        cycles = 0
        posts = []

        async def bench(ctx):
            nonlocal cycles
            for name, data in loads.items():
                ctx.set(dut.load_target, int(BUFFERS[name]))
                ctx.set(dut.load_valid, 1)
                for beat, content in enumerate(data):
                    ctx.set(dut.load_beat, beat)
                    ctx.set(dut.load_data, int.from_bytes(content.tobytes(), "little"))
                    await ctx.tick().until(dut.load_ready)
                ctx.set(dut.load_valid, 0)
            size = preset.beat_bytes
            packed = b"".join(FORMATS[f["opcode"]].pack(**f) for f in self.descriptors)
            waiting = [packed[n:n + size] for n in range(0, len(packed), size)]
            while len(posts) < len(self.descriptors):
                ctx.set(dut.i_beat.valid, bool(waiting))
                ctx.set(dut.grant, ctx.get(dut.request))
                if waiting:
                    ctx.set(dut.i_beat.payload, int.from_bytes(waiting[0], "little"))
                    if ctx.get(dut.i_beat.ready):
                        waiting.pop(0)
                await ctx.tick()
                if ctx.get(dut.done_valid):
                    posts.append(ctx.get(dut.done_post))
                cycles += 1
                assert cycles < limit, f"no end after {limit} cycles, {len(posts)} posts"
            ctx.set(dut.store_enable, 1)
            for place, beat in enumerate([*beats, beats[-1], beats[-1]], -2):
                ctx.set(dut.store_beat, beat)
                await ctx.tick()
                if place >= 0:
                    data = ctx.get(dut.store_data).to_bytes(preset.beat_bytes, "little")
                    result[beats[place]] = np.frombuffer(data, np.uint8)

        simulator = Simulator(dut)
        simulator.add_clock(1e-8)
        simulator.add_testbench(bench)
        simulator.run()
        assert posts == [f["post"] for f in self.descriptors]
        return result, want, cycles
