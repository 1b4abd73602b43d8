# SPDX-License-Identifier: Apache-2.0
"""Cycles follow spikes: one 3x3 layer, 64 to 64 channels at 56x56, at every density.

    python -m tb.bench

Prints a table and writes ``build/bench/density.json``. Cycles are those of the whole program, from
start to done: loads, additions, epilogue and stores, memory latency 100 cycles. The bound is 1.15
times the additions that the spikes ask for, over the adders; without a spike, 1.1 times the window
reads and weight beats. Exit code 1 if a bound or a single value does not hold.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hw.presets import Preset, get_preset
from sim.verilated import VerilatedTransport
from sw.compile.compiler import compile_model
from sw.driver import Driver, Region
from sw.golden.network import evaluate_layer
from sw.golden.useful import useful_of_layer
from sw.model_file import IntegerModel
from tb.random_model import layer_model

__all__ = ["main", "run_layer"]

DENSITIES = (0, 5, 10, 20, 30, 50, 75, 100)
SIZE, CHANNELS = 56, 64
OUTPUT = Path("build/bench/density.json")


def bound_without_spikes(preset: Preset) -> float:
    """Return 1.1 x (window reads + weight beats) of the layer."""
    words, tiles = CHANNELS // 32, CHANNELS // preset.lanes
    inside = [sum(0 <= p + k - 1 < SIZE for k in range(3)) for p in range(SIZE)]
    reads = sum(rows * -(-columns * words // preset.map_banks)
                for rows in inside for columns in inside)
    beats = tiles * 9 * CHANNELS * preset.weight_row_bits // preset.axi_bits
    return 1.1 * (tiles * reads + beats)


def run_layer(model: IntegerModel, name: str, spikes: torch.Tensor, preset: Preset):
    """Run one layer on the Verilated model; return its counters, and whether its spikes are right.
    """
    program = compile_model(model, preset, layers=[name],
                            densities={model.layer(name).inputs[0]: float(spikes.float().mean())})
    layer = model.layer(name)
    with VerilatedTransport(preset, memory_bytes=-(-program.size // 4096) * 4096) as transport:
        driver = Driver(transport, preset)
        program.load(transport.memory, program.base)
        program.write_tensor(transport.memory, layer.inputs[0], spikes, program.base)
        counters = driver.run(program.address, program.count, Region(*program.read_region),
                              Region(*program.write_region))
        want = evaluate_layer(model, layer, [spikes.unsqueeze(0)], None)
        equal = all(np.array_equal(program.read_tensor(transport.memory, tensor, program.base),
                                   want[tensor][0].numpy()) for tensor in layer.outputs.values())
    return counters, equal


def main(preset_name: str = "ecp5") -> int:
    """Run all densities; return the exit code."""
    preset = get_preset(preset_name)
    model = layer_model(CHANNELS, SIZE)
    random = torch.Generator().manual_seed(0)
    table = Table(title=f"3x3, {CHANNELS} to {CHANNELS} channels at {SIZE}x{SIZE}, {preset.name}, "
                  f"{preset.adders} adders")
    for column in ("density", "additions", "cycles", "bound", "cycles x adders / additions", "ok"):
        table.add_column(column, justify="right")
    records = []
    for density in DENSITIES:
        spikes = (torch.rand((1, CHANNELS, SIZE, SIZE), generator=random)
                  < density / 100).to(torch.uint8)
        counters, equal = run_layer(model, "layer", spikes, preset)
        additions = useful_of_layer(model.layer("layer"), [spikes], signed_digits=False)
        ideal = additions / preset.adders
        bound = 1.15 * ideal if density else bound_without_spikes(preset)
        ok = equal and counters.cycles <= bound
        records.append({"density": density / 100, "adders": preset.adders,
                        "additions": additions, "cycles": counters.cycles, "bound": bound,
                        "bit_exact": equal, "holds": ok})
        ratio = f"{counters.cycles / ideal:.3f}" if density else "-"
        table.add_row(f"{density} %", f"{additions:,}", f"{counters.cycles:,}", f"{bound:,.0f}",
                      ratio, "yes" if ok else "NO" if equal else "WRONG")
    Console().print(table)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    partial = OUTPUT.with_suffix(".partial")
    partial.write_text(json.dumps(records, indent=1) + "\n")
    partial.replace(OUTPUT)
    return 0 if all(record["holds"] for record in records) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
