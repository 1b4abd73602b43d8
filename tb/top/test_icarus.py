# SPDX-License-Identifier: Apache-2.0
"""A layer in Icarus Verilog, another simulator, with a testbench in plain Verilog.

Icarus knows unknown values, and memories begin with them, so that anything which came from what
was never written would be unknown and not equal to the golden model.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hw import regmap
from hw.presets import get_preset
from sim import build
from sw.compile.compiler import compile_model
from sw.compile.program import Program
from sw.golden.network import evaluate
from tb.random_model import layer_model, random_image

BENCH = Path(__file__).with_name("accelerator_tb.v")
MODEL = layer_model(8, 4)
IMAGE = random_image(MODEL, 2)


def simulate(folder: Path, verilog: str, program: Program, before: np.ndarray,
             limit: int) -> tuple[list[str], list[str]]:
    """Return what the testbench says, and memory behind it: a line of hex digits (or x) a beat."""
    preset = program.preset
    host = {"program_address": program.address, "program_count": program.count,
            "read_base": program.read_region[0], "read_limit": program.read_region[1],
            "write_base": program.write_region[0], "write_limit": program.write_region[1],
            "irq_enable": 3, "control": 1}
    (folder / "addend.v").write_text(verilog)
    (folder / "host.hex").write_text("".join(
        f"{regmap.address(name):08x}{value:08x}\n" for name, value in host.items()))
    beats = before.reshape(-1, preset.beat_bytes)[:, ::-1]
    (folder / "memory.hex").write_text("".join(f"{beat.tobytes().hex()}\n" for beat in beats))
    parameters = {"BITS": preset.axi_bits, "BEATS": len(beats), "WRITES": len(host),
                  "STATUS": regmap.address("status"), "ERROR_CODE": regmap.address("error_code")}
    subprocess.run(
        ["iverilog", "-g2001", "-Wall", "-Wno-timescale", "-s", "accelerator_tb", "-o", "model",
         *(f"-Paccelerator_tb.{name}={value}" for name, value in parameters.items()),
         BENCH, "addend.v"], cwd=folder, check=True, timeout=300)
    done = subprocess.run(
        ["vvp", "-n", "model", "+memory=memory.hex", "+host=host.hex", "+result=result.hex",
         f"+limit={limit}"], cwd=folder, check=True, capture_output=True, text=True, timeout=600)
    lines = [line for line in (folder / "result.hex").read_text().splitlines()
             if not line.startswith("//")]
    return done.stdout.split(), lines


def differing(program: Program, lines: list[str]) -> list[str]:
    """Tensors that are not the golden ones; unknown bits count as 0 and as 1 in turn."""
    golden = evaluate(MODEL, IMAGE)
    wrong = set()
    for unknown in "0f":
        data = b"".join(bytes.fromhex(line.replace("x", unknown).replace("X", unknown))[::-1]
                        for line in lines)
        memory = np.frombuffer(data, np.uint8)
        wrong |= {name for name in program.tensors if not np.array_equal(
            program.read_tensor(memory, name), golden[name].numpy())}
    return sorted(wrong)


@pytest.fixture(scope="module")
def program() -> Program:
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog (iverilog) is not installed")
    return compile_model(MODEL, get_preset("tiny"))


@pytest.fixture
def memory(program: Program) -> np.ndarray:
    memory = np.full(-(-(program.base + program.size) // 4096) * 4096, 0xA5, np.uint8)
    program.load(memory)
    program.write_input(memory, IMAGE.numpy())
    return memory


def test_icarus_equals_the_golden_model(program: Program, memory: np.ndarray,
                                        tmp_path: Path) -> None:
    said, lines = simulate(tmp_path, build.verilog("tiny", build.BARE), program, memory,
                           10 * program.predicted_cycles + 100_000)
    assert said[:3] == ["done", "10", "0"], said        # done, interrupt; no error
    assert differing(program, lines) == []
    assert 0 < int(said[3]) < 10 * program.predicted_cycles


def test_a_run_that_does_not_end_is_seen(program: Program, memory: np.ndarray,
                                         tmp_path: Path) -> None:
    said, lines = simulate(tmp_path, build.verilog("tiny", build.BARE), program, memory, 100)
    assert said == ["timeout"]
    assert differing(program, lines)
