"""The threads of an edge."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from featurewire.wire.coder import Coder
from featurewire_client.edge import Edge, _on
from featurewire_client.head_pass import Seconds
from featurewire_models import load_head


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


@pytest.mark.parametrize(("tokens", "sizes"), [(511, [64] * 7 + [63]), (512, [128] * 4)])
async def test_long_texts_go_in_longer_spans(tokens, sizes):
    edge = Edge(load_head("tiny-llama3", "layers.1"), Coder("float16", {}))
    ids = torch.arange(tokens)[None]
    try:
        found = edge.spans(ids, edge.head.new_cache(), 25.0, Seconds())
        assert [span.points // span.channels async for span in found] == sizes
    finally:
        edge.close()
