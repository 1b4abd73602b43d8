# SPDX-License-Identifier: Apache-2.0
"""How fast the Verilated model runs: against the same run under cocotb, and with 512 adders.

    python -m tb.simulation

Runs one network and image on preset ``small`` in the harness and under cocotb, then one image of
a bundled network on ``large``, on one core each. Prints and writes ``build/bench/simulation.json``.
"""

import json
import os
import tempfile
import time
from pathlib import Path

from hw.presets import get_preset
from sw.bundled import bundled_network
from sw.compile.compiler import compile_model
from sw.display import out, progress
from sw.export import write_json
from sw.golden.network import evaluate, quantise_images
from sw.golden.useful import useful_additions
from sw.run import Step
from sw.simulated_device import SimulatedDevice
from tb.cocotb_run import run_bench
from tb.random_model import random_image, random_model
from tb.top.cocotb_speed import NETWORK, SEED

OUTPUT = Path("build/bench/simulation.json")
SHIPPED, PRESET = "cifar10_v2", "large"


def _harness(model, image, preset: str) -> dict[str, float]:
    """Cycles and seconds of one run in the harness."""
    device = SimulatedDevice(compile_model(model, get_preset(preset)), len(model.layers))
    try:
        begin = time.perf_counter()
        counters, _ = device.run([{model.input.tensor: image}], 0)
        seconds = time.perf_counter() - begin
    finally:
        device.close()
    return {"cycles": counters.cycles, "seconds": seconds}


def _cocotb() -> dict[str, float]:
    """The same of the run of `tb.top.cocotb_speed`."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ADDEND_SPEED_FILE"] = str(Path(folder, "speed.json"))
        run_bench("hw.top:Accelerator", "tb.top.cocotb_speed", "small")
        return json.loads(Path(os.environ["ADDEND_SPEED_FILE"]).read_text())


def measure(step: Step) -> dict[str, object]:
    """Both comparisons."""
    model = random_model(SEED, **NETWORK)
    step("the harness on small", 0, 0)
    harness = _harness(model, random_image(model, SEED), "small")
    step("cocotb on small", 0, 0)
    cocotb = _cocotb()
    speed = {name: found["cycles"] / found["seconds"]
             for name, found in (("harness", harness), ("cocotb", cocotb))}
    shipped, images = bundled_network(SHIPPED, 1, step)
    image = quantise_images(shipped, images.pixels)[0]
    step(f"{SHIPPED} on {PRESET}", 0, 0)
    large = _harness(shipped, image, PRESET)
    useful = sum(useful_additions(shipped, evaluate(shipped, image)).values())
    return {"small": {"harness": harness, "cocotb": cocotb, "cycles_per_second": speed,
                      "ratio": speed["harness"] / speed["cocotb"]},
            "large": large | {"network": SHIPPED, "useful_additions": useful,
                              "cycles_per_second": large["cycles"] / large["seconds"],
                              "useful_additions_per_second": useful / large["seconds"]}}


def main() -> None:
    """Measure, print, write."""
    with progress() as step:
        found = measure(step)
    small, large = found["small"], found["large"]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    write_json(OUTPUT, found)
    out.print(f"small: {small['cycles_per_second']['harness']:,.0f} cycles a second in the "
              f"harness, {small['cycles_per_second']['cocotb']:,.0f} under cocotb: "
              f"{small['ratio']:.1f} times faster")
    out.print(f"large: {large['cycles_per_second']:,.0f} cycles, "
              f"{large['useful_additions_per_second'] / 1e6:.1f} million useful additions a second")


if __name__ == "__main__":
    main()
