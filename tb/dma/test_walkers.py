# SPDX-License-Identifier: Apache-2.0
"""Runs, beats and bursts against plain loops."""

import random

import pytest

from hw.dma.beats import Beats
from hw.dma.bursts import Bursts
from hw.dma.payloads import BEAT_BITS, MAX_BURST
from hw.dma.run_walker import RunWalker
from tb.dma.streams import transfer

PAUSES = [(0, 0), (0.5, 0), (0, 0.5), (0.4, 0.6)]


def make_jobs(seed, count, width):
    rng = random.Random(seed)
    jobs = []
    for index in range(count):
        jobs.append({
            "start": rng.randrange(1 << width), "length": rng.randrange(1, 1 << 16),
            "count_1": rng.choice([1, 1, 2, rng.randrange(1, 9)]),
            "count_2": rng.choice([1, 1, 2, rng.randrange(1, 9)]),
            "step_1": rng.randrange(1 << width), "step_2": rng.randrange(1 << width),
            "beat_step": rng.randrange(1, 16), "index": index, "layer": rng.randrange(1 << 16)})
    return jobs


@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("width", [BEAT_BITS, 32])
def test_run_walker(width, pauses):
    jobs = make_jobs(1, 20, width)
    expected = []
    for job in jobs:
        for j2 in range(job["count_2"]):
            for j1 in range(job["count_1"]):
                start = job["start"] + j2 * job["step_2"] + j1 * job["step_1"]
                expected.append({
                    "start": start % (1 << width), "length": job["length"],
                    "beat_step": job["beat_step"], "index": job["index"], "layer": job["layer"],
                    "last": int(j2 == job["count_2"] - 1 and j1 == job["count_1"] - 1)})
    found, cycles = transfer(RunWalker(width), jobs, len(expected), *pauses)
    assert found == expected
    if pauses == (0, 0):
        assert cycles[0] == 1
        assert cycles[-1] == len(expected)


@pytest.mark.parametrize("pauses", PAUSES)
def test_beats(pauses):
    rng = random.Random(2)
    runs = [{"start": rng.randrange(1 << BEAT_BITS), "length": rng.choice([1, 1, 2, 7]),
             "beat_step": rng.choice([1, 1, 4, 15]), "last": rng.randrange(2), "index": index,
             "layer": 7} for index in range(60)]
    expected = [{"beat": (run["start"] + k * run["beat_step"]) % (1 << BEAT_BITS),
                 "last": int(run["last"] and k == run["length"] - 1), "index": run["index"],
                 "layer": 7}
                for run in runs for k in range(run["length"])]
    found, cycles = transfer(Beats(), runs, len(expected), *pauses)
    assert found == expected
    if pauses == (0, 0):
        assert cycles[0] == 1
        assert cycles[-1] == len(expected)


def make_runs(seed, size, transfers):
    """Make runs of several transfers, often contiguous."""
    rng = random.Random(seed)
    runs = []
    for index in range(transfers):
        count, start = rng.randrange(1, 12), size * rng.randrange(1 << 16)
        for k in range(count):
            length = rng.choice([1, 2, 3, rng.randrange(1, 70)])
            runs.append({"start": start, "length": length, "last": int(k == count - 1),
                         "index": index, "layer": 3})
            start += size * length
            if rng.random() < 0.3:
                start = size * rng.randrange(1 << 16)
    return runs


@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("axi_bits", [64, 128, 512])
def test_bursts(axi_bits, pauses):
    """The bursts hold the beats of the runs, split and merged as they should be."""
    size = axi_bits // 8
    runs = make_runs(axi_bits, size, 20)
    beats = [(run["start"] + size * k, run["index"], run["last"] and k == run["length"] - 1)
             for run in runs for k in range(run["length"])]
    bursts = []
    for address, index, last in beats:
        joins = (bursts and address == bursts[-1]["address"] + size * bursts[-1]["beats"]
                 and address // size % MAX_BURST and not bursts[-1]["last"])
        if joins:
            bursts[-1]["beats"] += 1
            bursts[-1]["last"] = int(last)
        else:
            bursts.append({"address": address, "beats": 1, "last": int(last), "index": index,
                           "layer": 3})
    found, _ = transfer(Bursts(axi_bits), runs, len(bursts), *pauses)
    assert found == bursts
    for burst in found:
        end = burst["address"] + size * burst["beats"] - 1
        assert burst["address"] // 4096 == end // 4096


def test_bursts_throughput():
    """One run a cycle, whether it merges or not."""
    size = 16
    apart = [{"start": 1024 * k, "length": 3, "last": 0, "index": 0, "layer": 0}
             for k in range(100)]
    _, cycles = transfer(Bursts(128), [*apart, dict(apart[0], last=1)], 100)
    assert cycles[-1] - cycles[0] == 99
    touching = [{"start": size * k, "length": 1, "last": 0, "index": 0, "layer": 0}
                for k in range(1600)]
    found, cycles = transfer(Bursts(128), touching, 100)
    assert {burst["beats"] for burst in found} == {MAX_BURST}
    assert cycles[-1] - cycles[0] == 99 * MAX_BURST
