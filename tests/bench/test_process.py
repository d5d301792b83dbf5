"""The server process: healthy inside the block, ended after it, and frank when it fails."""

import sys

import grpc
import pytest
from featurewire_bench.errors import ServerProcessError
from featurewire_bench.process import ServerProcess

HEALTHY = """
import sys, grpc
from concurrent.futures import ThreadPoolExecutor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
address = sys.argv[sys.argv.index("--listen") + 1]
servicer = health.HealthServicer()
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
server = grpc.server(ThreadPoolExecutor(1))
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port(address)
server.start()
print("models:", sys.argv[sys.argv.index("--model") + 1])
server.wait_for_termination()
"""


def test_it_waits_until_the_server_is_serving_and_ends_it() -> None:
    with ServerProcess(["tiny"], command=(sys.executable, "-c", HEALTHY)) as server:
        assert "models: tiny" in server.log()
        address = server.address
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(0.3)


def test_a_server_that_dies_is_quoted() -> None:
    dies = (sys.executable, "-c", "print('no model named tiny'); raise SystemExit(2)")
    with pytest.raises(ServerProcessError, match=r"ended with code 2[\s\S]*no model named tiny"):
        ServerProcess(["tiny"], command=dies).__enter__()


def test_a_server_that_never_serves_is_ended() -> None:
    hangs = (sys.executable, "-c", "import time; time.sleep(60)")
    with pytest.raises(ServerProcessError, match=r"not SERVING after 0\.5 s"):
        ServerProcess(["tiny"], command=hangs, start_timeout_s=0.5).__enter__()
