# SPDX-License-Identifier: Apache-2.0
"""The neuron array, and the whole epilogue, on generated Verilog."""

import pytest

from tb.cocotb_run import presets, run_bench


@pytest.mark.parametrize("preset", presets("tiny"))
def test_neuron_array(preset: str) -> None:
    run_bench("hw.lif.neuron_array:NeuronArray", "tb.lif.cocotb_neuron_array", preset)
