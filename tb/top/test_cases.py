# SPDX-License-Identifier: Apache-2.0
"""Fixed networks on the whole accelerator: every tensor, and the counters."""

import pytest

from tb.top.cases import NETWORKS, run_network


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    run_network(name)
