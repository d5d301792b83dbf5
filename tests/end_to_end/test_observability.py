"""Health, reflection, the log and the metrics tell what really happened."""

import re
import socket
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire.wire.coder import warm_up
from featurewire.wire.metrics import WireMetrics
from featurewire_client import RefusedError, SplitClient
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

IDS = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
SERVICE = "featurewire.v1.SplitInferenceService"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        families = text_string_to_metric_families(page.read().decode())
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_says_serving_once_the_models_are_loaded(llama, serve, service):
    async with serve(llama) as server, grpc.aio.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        answer = await check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_codecs_kernels_are_loaded_before_anyone_is_served(llama, serve):
    warm_up.cache_clear()
    async with serve(llama):
        assert warm_up.cache_info().currsize == 1


async def test_reflection_lists_the_service(llama, serve):
    import asyncio

    def names(address: str) -> list[str]:
        with grpc.insecure_channel(address) as channel:
            return list(ProtoReflectionDescriptorDatabase(channel).get_services())

    async with serve(llama) as server:
        assert SERVICE in await asyncio.to_thread(names, server.address)


async def test_metrics_count_the_bytes_and_features_that_the_caller_was_told(llama, serve):
    import asyncio

    port = free_port()
    async with serve(llama, metrics_port=port) as server:
        async with SplitClient(server.address, str(llama), codec="float16") as client:
            stats = [(await client.infer(IDS)).stats for _ in range(2)]
            during = await asyncio.to_thread(scrape, port)
        with pytest.raises(RefusedError):
            await SplitClient(server.address, str(llama), split="layers.7").__aenter__()
        after = await asyncio.to_thread(scrape, port)
    model, received = ("model", "random-llama"), ("direction", "received")
    sent = sum(one.sent_bytes for one in stats)
    name = "featurewire_server_feature_bytes_total"
    assert during[name, (received, ("form", "coded"), model)] == sent
    assert during[name, (received, ("form", "raw"), model)] == 2 * 4 * 4 * 32
    assert during["featurewire_server_requests_total", (model, ("task", "generation"))] == 2
    for stage in ("queue", "decode", "tail"):
        count = ("featurewire_server_stage_seconds_count", (model, ("stage", stage)))
        assert during[count] == 2
    bpfp = "featurewire_server_bits_per_feature_point_sum"
    assert during[bpfp, (("codec", "float16"), model)] == pytest.approx(
        sum(one.bpfp for one in stats)
    )
    assert during["featurewire_server_sessions", ()] == 1
    assert after["featurewire_server_sessions", ()] == 0
    errors = "featurewire_server_errors_total"
    assert after[errors, (("code", "FAILED_PRECONDITION"),)] == 1


async def test_a_client_that_asks_for_metrics_keeps_its_own(llama, serve):
    registry = CollectorRegistry()
    metrics = WireMetrics("client", registry)
    async with serve(llama) as server:
        address = server.address
        async with SplitClient(address, str(llama), codec="float32", metrics=metrics) as client:
            stats = (await client.infer(IDS)).stats
            open_sessions = registry.get_sample_value("featurewire_client_sessions")
    labels = {"model": "random-llama", "direction": "sent", "form": "coded"}
    total = registry.get_sample_value("featurewire_client_feature_bytes_total", labels)
    assert total == stats.sent_bytes
    head = {"model": "random-llama", "stage": "head"}
    seconds = registry.get_sample_value("featurewire_client_stage_seconds_sum", head)
    assert seconds == pytest.approx(stats.head_ms / 1000)
    assert open_sessions == 1
    assert registry.get_sample_value("featurewire_client_sessions") == 0


async def test_each_request_is_one_line_in_the_servers_log(llama, serve, server_log):
    async with (
        serve(llama) as server,
        SplitClient(server.address, str(llama), codec="float16") as client,
    ):
        stats = [(await client.infer(IDS)).stats for _ in range(3)]
    lines = [line for line in server_log() if line.startswith("request ")]
    assert len(lines) == 3
    fields = dict(re.findall(r"(\w+)=(\S+)", lines[0]))
    assert fields["model"] == "random-llama"
    assert fields["codec"] == "float16"
    assert int(fields["received_bytes"]) == stats[0].sent_bytes
    assert float(fields["bpfp"]) == pytest.approx(stats[0].bpfp, abs=1e-3)
    assert {"queue_ms", "decode_ms", "tail_ms"} <= set(fields)


async def test_a_refusal_is_in_the_log_with_its_reason(llama, serve, server_log):
    async with serve(llama) as server:
        with pytest.raises(RefusedError):
            await SplitClient(server.address, str(llama), split="layers.7").__aenter__()
    assert any("SPLIT_UNKNOWN" in line for line in server_log())


async def test_a_generation_is_one_request_in_log_and_metrics(llama, serve, server_log):
    import asyncio

    from featurewire_client.connection import connect
    from featurewire_client.session import Session
    from featurewire_models import describe, load_head

    port = free_port()
    async with serve(llama, metrics_port=port) as server:
        connection = await connect(server.address, 5)
        info, head = describe(llama), load_head(llama, "layers.2")
        offer = pb.Handshake(model=info.name, codec="float32")
        offer.protocol_min, offer.protocol_max = limits.PROTOCOL_MIN, limits.PROTOCOL_MAX
        offer.revision, offer.split = info.revision, "layers.2"
        session, cache = await Session.open(connection, offer), head.new_cache()
        tensor = pb.CodedTensor(name="hidden", batch=1, tokens=1, channels=32)
        generation = pb.Generation(max_tokens=4)
        session.begin(pb.Begin(request=1, tensors=[tensor], generation=generation))
        for step in range(4):
            features = head({"input_ids": torch.tensor([[5 + step]])}, cache=cache)
            data = features.tensors["hidden"].detach().numpy().tobytes()
            await session.send(pb.Chunk(request=1, payload=data, tokens=1))
            answer = await session.answer(1)
            token, account = answer.token, answer.account
        assert token.finish == pb.FINISH_LENGTH
        assert account.features == 128
        counted = await asyncio.to_thread(scrape, port)
        await session.close()
        await connection.channel.close()
    model = ("model", "random-llama")
    assert counted["featurewire_server_requests_total", (model, ("task", "generation"))] == 1
    (line,) = [line for line in server_log() if line.startswith("request ")]
    assert "features=128 " in line
    assert "tokens=4 " in line


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel is not Linux")
async def test_the_kernel_names_the_threads_of_every_stage(serve):
    pixels, model = torch.rand(1, 3, 64, 64), "tiny-dinov2"
    async with serve(model) as server, SplitClient(server.address, model) as client:
        await client.infer({"pixel_values": pixels})
        names = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    assert names >= {"head_0", "encode_0", "decode_0", "tail-0"}
