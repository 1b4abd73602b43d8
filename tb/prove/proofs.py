# SPDX-License-Identifier: Apache-2.0
"""All proofs, and the components that have none, with the reason."""

from tb.prove import (
    choice,
    control,
    groups,
    loads,
    memories,
    movers,
    order,
    ports,
    queues,
    scan,
    walkers,
)
from tb.prove.proof import Proof

__all__ = ["PROOFS", "UNPROVED"]

PROOFS: tuple[Proof, ...] = (
    *queues.PROOFS, *choice.PROOFS, *walkers.PROOFS, *ports.PROOFS, *movers.PROOFS,
    *control.PROOFS, *order.PROOFS, *scan.PROOFS, *groups.PROOFS, *loads.PROOFS,
    *memories.PROOFS)

UNPROVED = {
    "hw.top.Accelerator": "connects components; `accelerator` bench",
    "hw.control.control.Control": "connects components; `control` bench",
    "hw.control.counters.Counters": "sums, without a handshake; `accelerator` bench",
    "hw.conv.engine.ConvEngine": "connects components; tb/conv/test_compute.py",
    "hw.conv.window.WindowReader": "connects picker and cutter; its count of room is tested by the "
                                   "`scan` bench, which looks for overflows",
    "hw.frame.Registered": "registers around a component, to measure its timing; tb/hw",
    "hw.lif.epilogue.Epilogue": "a pipeline that never waits; `epilogue` bench",
    "hw.lif.level_array.LevelArray": "arithmetic in a pipeline that never waits; `epilogue` bench",
    "hw.lif.neuron_array.NeuronArray": "arithmetic in a pipeline that never waits; `lif` bench",
    "hw.lif.result_collector.ResultCollector":
        "a choice in a pipeline that never waits; tb/lif/test_result_collector.py",
    "hw.lif.writer.ResultWriter": "a pipeline that never waits; `epilogue` bench",
    "hw.sdsa.count_matrix.CountMatrix": "arithmetic and hazards of counts; `sdsa` bench",
}
"""Components without a proof: why, and what tests them instead."""
