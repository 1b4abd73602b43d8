# SPDX-License-Identifier: Apache-2.0
"""How fast the whole accelerator runs under cocotb; see tb.simulation."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from cocotb.task import bridge

from tb.cocotb_bench import bench, generator, start
from tb.random_model import random_image, random_model
from tb.top.cocotb_accelerator import Host

NETWORK = dict(size=(12, 10), channels=40, heads=2, time_steps=2, kernel=3)
SEED = 5


@bench
async def speed(dut: object) -> None:
    """Run one image, compared with the golden model; write cycles and seconds."""
    await start(dut)
    host = Host(dut, random_model(SEED, **NETWORK), generator("speed"), 0.0)
    image = random_image(host.model, SEED).numpy()
    begin = time.perf_counter()
    await bridge(host.run)(image, 10_000_000)
    seconds = time.perf_counter() - begin
    await host.check(SEED)
    cycles = (await bridge(host.driver.counters)()).cycles
    Path(os.environ["ADDEND_SPEED_FILE"]).write_text(json.dumps(
        {"cycles": cycles, "seconds": seconds}))
