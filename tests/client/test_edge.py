"""The threads of an edge."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from featurewire_client.edge import Edge, _on


@pytest.mark.parametrize(("device", "alone"), [("cpu", False), ("cuda", True)])
async def test_the_thread_that_asks_a_gpu_has_no_others_beside_it(device, alone):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    head: Any = SimpleNamespace(device=torch.device(device))
    coder: Any = None
    edge = Edge(head, coder)
    try:
        assert await _on(edge._torch, torch.get_num_threads) == (1 if alone else 3)
        assert await _on(edge._codec, torch.get_num_threads) == 1
    finally:
        edge.close()
        torch.set_num_threads(before)
