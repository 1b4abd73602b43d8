# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""One case for each row of docs/errors.md: the exception, and a sentence that names the cause."""

import contextlib
import dataclasses
import re
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hw.descriptor import CONV, Opcode
from hw.presets import get_preset
from hw.regmap import ErrorCode
from sim.verilated import VerilatedTransport
from sw.compile.compiler import compile_model
from sw.driver import DeviceError, DeviceTimeout, Driver, Region
from sw.evaluation import cluster
from sw.evaluation.results import Results
from sw.fpga.estimate import estimate
from sw.fpga.targets import get_target
from sw.golden.network import evaluate
from sw.images import InputSpec, load_images
from sw.model_file import IntegerModel, check, load_model, save_model
from sw.run import quantise_checkpoint
from sw.soc_map import read_soc_map
from sw.uart_link import UartLink, open_port
from sw.uartbone import UartTransport
from sw.uio import UioTransport
from sw.uio_files import UioFiles
from tb.driver import test_system as system
from tb.driver.rogue import RULES
from tb.driver.stub_compute import FAIL_LAYER
from tb.driver.test_uio import Files
from tb.driver.uart_model import SOC, Bridge
from tb.random_model import layer_model, random_image, random_model

ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `(\w+)` ?(\w*) \|$",
                  (Path(__file__).parents[2] / "docs" / "errors.md").read_text(), re.MULTILINE)
CASES: dict[str, tuple[str, Callable]] = {}
MODEL = random_model(0, time_steps=1, blocks=("mlp",), channels=8)


def case(row: str, sentence: str) -> Callable:
    """Register a function of (folder, maker of stub drivers) that must raise, with a sentence."""
    def register(function: Callable) -> Callable:
        CASES[row] = sentence, function
        return function

    return register


def _edited(which: str, /, **fields: object) -> IntegerModel:
    layers = [dataclasses.replace(layer, **fields) if layer.kind == which else layer
              for layer in MODEL.layers]
    return dataclasses.replace(MODEL, layers=tuple(layers))


@case("a model file is cut short or no safetensors file", "m: not a whole safetensors file")
def _(folder: Path, _make: Callable) -> None:
    save_model(MODEL, folder / "m")
    (folder / "m").write_bytes((folder / "m").read_bytes()[:-9])
    load_model(folder / "m")


@case("a safetensors file of another program", "m: .*not an Addend model file")
def _(folder: Path, _make: Callable) -> None:
    save_file({"x": torch.zeros(1)}, folder / "m")
    load_model(folder / "m")


@case("a layer of unknown kind", "layer 'head': kind 'deconv' is unknown")
def _(_folder: Path, _make: Callable) -> None:
    check(_edited("head", kind="deconv"))


@case("weights whose sum could overflow", r"layer 'head': \|acc \+ bias\| may reach")
def _(_folder: Path, _make: Callable) -> None:
    head = MODEL.layers[-1]
    check(_edited("head", bias=torch.full_like(head.bias, (1 << 27) - 1)))


@case("a residual stream beyond 16 bits", "layer 'stem': the residual stream spans")
def _(_folder: Path, _make: Callable) -> None:
    stem = MODEL.layers[0]
    changed = dataclasses.replace(
        stem, shift=torch.full_like(stem.shift, -4), bias=torch.full_like(stem.bias, 60_000))
    model = dataclasses.replace(MODEL, layers=(changed, *MODEL.layers[1:]))
    evaluate(model, random_image(model, 0))


@case("a checkpoint of another network", "not a Meta-SpikeFormer")
def _(folder: Path, _make: Callable) -> None:
    save_file({"x": torch.zeros(1)}, folder / "c.safetensors")
    np.save(folder / "i.npy", np.zeros((1, 3, 8, 8), np.float32))
    quantise_checkpoint(folder / "c.safetensors", folder / "i.npy", time_steps=1)


def _images(folder: Path, content: np.ndarray) -> None:
    np.save(folder / "i.npy", content)
    load_images(folder / "i.npy", InputSpec(channels=3, height=4, width=5, frames=1))


@case("results of an evaluation of something else", r"r: results of another model \(b, not a\)")
def _other_results(folder: Path, _: Callable) -> None:
    Results.empty({"model": "b"}, 1, 1, 1).save(folder / "r")
    Results.empty({"model": "a"}, 1, 1, 1).load(folder / "r")


@case("a scheduler that does not answer", r"scheduler tcp://127\.0\.0\.1:9: no answer within")
def _no_scheduler(folder: Path, _: Callable) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "CONNECT_SECONDS", 1)
        with cluster.cluster("tcp://127.0.0.1:9", 1):
            pass


@case("images of the wrong shape", r"i\.npy: .*shape \[2, 3, 5, 4\], must be \[N, 3, 4, 5\]")
def _(folder: Path, _make: Callable) -> None:
    _images(folder, np.zeros((2, 3, 5, 4), np.float32))


@case("images of the wrong type", r"i\.npy: images are int64, must be float32 or uint8")
def _(folder: Path, _make: Callable) -> None:
    _images(folder, np.zeros((2, 3, 4, 5), np.int64))


@case("a file that is no picture or array", r"p\.png: not a readable picture")
def _(folder: Path, _make: Callable) -> None:
    (folder / "p.png").write_bytes(b"nonsense")
    load_images(folder / "p.png", InputSpec(channels=3, height=4, width=5, frames=1))


@case("an unknown preset", "no preset 'huge'; there are tiny, ")
def _(_folder: Path, _make: Callable) -> None:
    get_preset("huge")


@case("a preset that can't be built", "preset tiny: lanes must divide 32, not 12")
def _(_folder: Path, _make: Callable) -> None:
    dataclasses.replace(get_preset("tiny"), lanes=12)


@case("an unknown target of synthesis", "no target 'ice40'; there are ecp5-85k, ")
def _(_folder: Path, _make: Callable) -> None:
    get_target("ice40")


@case("a preset whose widths no estimate covers", "preset tiny: acc_width is 20, but estimates")
def _(_folder: Path, _make: Callable) -> None:
    estimate(dataclasses.replace(get_preset("tiny"), acc_width=20), get_target("ecp5-85k"))


@case("a layer that does not fit a preset", "layer '.*' does not fit preset 'mini'")
def _(_folder: Path, _make: Callable) -> None:
    mini = dataclasses.replace(get_preset("tiny"), name="mini", map_rows=8, weight_rows=64)
    compile_model(layer_model(64, 40, kernel=7), mini)


@case("a value too large for its field", "CONV.planes must be 0 to 255, not 256")
def _(_folder: Path, _make: Callable) -> None:
    CONV.pack(opcode=Opcode.CONV, planes=256)


@case("hardware of another preset or version", "identity is .*, but preset ecp5 of this version")
def _(_folder: Path, make: Callable) -> None:
    Driver(make().transport, get_preset("ecp5"))


@case("a program or region outside memory", "program 0x.* isn't in the 0x100000 bytes of memory")
def _(_folder: Path, make: Callable) -> None:
    driver = make()
    driver.run(driver.transport.memory.size, 1, system.READABLE, system.WRITABLE)


@case("a UIO device or buffer that is missing or too small", "class/uio: no devices are called "
      "'addend', must be 1; there are: none")
def _(folder: Path, _make: Callable) -> None:
    UioFiles(sys=folder, dev=folder)


@case("an interrupt that Linux does not report", "/dev/some: the accelerator has raised its "
      "interrupt, but none came; needed: its line in the device tree")
def _(_folder: Path, _make: Callable) -> None:
    silent, kernel = socket.socketpair()
    with silent, kernel:
        UioTransport(Files(silent.fileno(), status=8), 1e6).wait(1000)


@case("a description of a SoC that is missing or incomplete", "soc.json: lacks field clock_hz")
def _(folder: Path, _make: Callable) -> None:
    (folder / "soc.json").write_text(SOC.replace('"clock_hz"', '"baud"'))
    read_soc_map(folder / "soc.json")


@case("a serial port that is missing, or none", "/dev/null: .*; needed: a serial port")
def _(_folder: Path, _make: Callable) -> None:
    open_port("/dev/null", 115200)


@case("a SoC that does not answer at its serial port", "port: 0 of 4 bytes came in 0.1 s in answer "
      "to a read at 0x80; needed: the SoC")
def _(_folder: Path, _make: Callable) -> None:
    host, silent = socket.socketpair()
    with silent, contextlib.closing(UartLink(host.detach(), "port", timeout=0.1)) as link:
        link.read(0x80, 1)


@case("an interrupt that does not arrive in the SoC", "bridge: the accelerator has raised its "
      "interrupt, but none came at 0x4; needed: the soc.json of this bitstream")
def _(_folder: Path, make: Callable) -> None:
    with contextlib.closing(Bridge(make().transport, wired=False)) as bridge, \
            UartTransport(bridge.link(), bridge.soc()) as transport:
        driver = Driver(transport, get_preset("tiny"))
        system.run(driver, [system.end()], timeout=20_000)


PROGRAMS = {
    "an unknown opcode": ("layer 7: opcode must be 1 to 5, not 9", [system.load(opcode=9)]),
    "an address beyond 32 bits": ("LOAD.address_high must be 0 to 0, not 1",
                                  [system.load(address_high=1)]),
    "a count of 0": ("layer 9: CONV.time_steps must be at least 1, not 0",
                     [system.conv(time_steps=0)]),
    "a LOAD to a buffer that does not exist": ("LOAD.target must be 0 to 3, not 4",
                                               [system.load(target=4)]),
    "an address or step that is no multiple of the beat": (
        "STORE.step_2 must be a multiple of 8, not 1", [system.store(step_2=1)]),
    "a CONV or KTV with a field outside its limits": (
        "at descriptor 0, layer 9: CONV.window_reads must be 1 to 16, not 17",
        [system.conv(window_reads=17)]),
    "a beat outside the buffer on chip": ("descriptor 0, layer 7",
                                          [system.load(buffer=4090, length=16)]),
    "a wild address to read from": ("descriptor 0, layer 7", [system.load(address=0)]),
    "a wild address to write to": ("descriptor 0, layer 8", [system.store(address=0)]),
    "a program without END": ("descriptor 1, layer 0", [system.load()]),
    "a semaphore raised beyond 255": ("descriptor ", [system.load(length=1, post=16)] * 300),
    "a program that waits for ever": ("descriptor 1", [system.load(), system.end(wait=2)]),
    "a residual beyond 16 bits in the hardware": (
        f"descriptor 0, layer {FAIL_LAYER}",
        [system.conv(layer=FAIL_LAYER, post=1), system.end(wait=1)]),
}
"""What is wrong, what the error says, and a program for the stub."""


def _runs(program: list[bytes]) -> Callable:
    return lambda _folder, make: system.run(make(), program)


for _row, (_sentence, _program) in PROGRAMS.items():
    if _row not in ("a program without END",):
        _program = [*_program, system.end()]
    case(_row, _sentence)(_runs(_program))


def _faulty(address: int) -> Callable:
    def faulty(_folder: Path, make: Callable) -> None:
        driver = make()
        driver.transport.set_fault(address, address + 8)
        system.run(driver, [system.load(post=1), system.store(wait=1, post=2),
                            system.end(wait=2)])

    return faulty


case("memory answers a read with an error", "descriptor 0, layer 7")(_faulty(system.SOURCE[0]))
case("memory answers a write with an error", "descriptor 1, layer 8")(_faulty(system.RESULT[0]))


@case("a window of more reads than window_reads", "layer 1")
def _(_folder: Path, _make: Callable) -> None:
    program = compile_model(layer_model(8, 5), get_preset("tiny"))
    kernels = [n for n, descriptor in enumerate(program.descriptors)
               if descriptor[0] == Opcode.CONV and CONV.unpack(descriptor)["kernel_rows"] == 3]
    values = CONV.unpack(program.descriptors[kernels[0]])
    descriptors = list(program.descriptors)
    descriptors[kernels[0]] = CONV.pack(**values | {"window_reads": values["window_reads"] - 1})
    with VerilatedTransport(program.preset, memory_bytes=1 << 16, effort="-O1") as transport:
        program.load(transport.memory)
        transport.memory[program.address:program.address + program.program_bytes] = (
            np.frombuffer(b"".join(descriptors), np.uint8))
        Driver(transport, program.preset).run(
            program.address, program.count, Region(*program.read_region),
            Region(*program.write_region), timeout=1_000_000)


@case("a program longer than the timeout", "no END after 300 cycles; last layer 0")
def _(_folder: Path, make: Callable) -> None:
    system.run(make(), [system.load(length=500)] * 4 + [system.end()], timeout=300)


@case("memory that never answers",
      "WATCHDOG at descriptor 0, .*; the accelerator does not end its memory transactions")
def _(_folder: Path, make: Callable) -> None:
    driver = make()
    driver.transport.set_mute("r")
    system.run(driver, [system.end()])


@case("registers that never answer", "the registers do not answer")
def _(_folder: Path, make: Callable) -> None:
    make(generator="tb.driver.rogue:generate_rogue")         # it has no registers to be read


@case("hardware that breaks a rule of AXI4", RULES[2])
def _(_folder: Path, _make: Callable) -> None:
    with VerilatedTransport(get_preset("tiny"), memory_bytes=1 << 16, effort="-O1",
                            generator="tb.driver.rogue:generate_rogue") as transport:
        transport.write32(0, 2)
        transport.wait(1000)


def generate_nonsense(_preset_name: str) -> str:
    """Return Verilog that isn't."""
    return "module addend(input clk); nonsense endmodule\n"


@case("Verilog that Verilator refuses", "the model of tiny .*does not build:(.|\n)*syntax error")
def _(_folder: Path, make: Callable) -> None:
    make(generator="tb.driver.test_errors:generate_nonsense")


def test_each_row_has_a_case() -> None:
    assert len(ROWS) > 30
    assert {what for what, *_ in ROWS} == CASES.keys()


@pytest.mark.parametrize(("what", "who", "exception", "code"), ROWS, ids=[row[0] for row in ROWS])
def test_row(tmp_path: Path, stub_driver: Callable, what: str, who: str, exception: str,
             code: str) -> None:
    sentence, function = CASES[what]
    with pytest.raises(Exception, match=sentence) as caught:
        function(tmp_path, stub_driver)
    assert type(caught.value).__name__ == exception
    if exception == "DeviceError":
        assert caught.value.code is ErrorCode[code]


@pytest.mark.parametrize("channel", ["ar", "r", "aw", "w", "b"])
def test_memory_that_does_not_answer_for_a_while(stub_driver: Callable, channel: str) -> None:
    """The run fails in bounded time; once memory answers again, the next run works."""
    driver = stub_driver()
    driver.transport.set_mute(channel)
    program = [system.load(post=1), system.store(wait=1, post=2), system.end(wait=2)]
    with pytest.raises((DeviceError, DeviceTimeout), match="WATCHDOG at descriptor "):
        system.run(driver, program, watchdog=1000)
    assert driver.transport.cycle < 100_000
    driver.transport.set_mute()
    system.good(driver)
