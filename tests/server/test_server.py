"""What a server's process is like."""

import pytest
import torch
from featurewire_models.weights import Placement
from featurewire_server import Server, ServerConfig
from featurewire_server import server as server_module


@pytest.mark.parametrize(("threads", "expected"), [(0, 1), (3, 3)])
def test_the_thread_that_asks_a_gpu_has_no_others_beside_it(monkeypatch, threads, expected):
    before = torch.get_num_threads()
    on_a_gpu = Placement(torch.float32, torch.device("cuda"))
    monkeypatch.setattr(server_module, "place", lambda dtype, device: on_a_gpu)
    monkeypatch.setattr(server_module, "Tails", lambda config: None)
    seen: list[int] = []
    monkeypatch.setattr(
        server_module, "Scheduler", lambda workers, most, threads: seen.append(threads)
    )
    try:
        Server(ServerConfig(models=("a-model",), threads=threads))
    finally:
        torch.set_num_threads(before)
    assert seen == [expected]
