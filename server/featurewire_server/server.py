"""The server process: gRPC, health, reflection and metrics around the service."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from wsgiref.simple_server import WSGIServer

import grpc
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire.wire import limits
from featurewire.wire.coder import warm_up
from featurewire.wire.runtime import coding_threads, use_threads
from featurewire_models.weights import place
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from featurewire_server.answers import Shared
from featurewire_server.cache_budget import CacheBudget
from featurewire_server.config import ServerConfig
from featurewire_server.errors import ListenError
from featurewire_server.metrics import ServerMetrics
from featurewire_server.scheduler import Scheduler
from featurewire_server.service import SplitInferenceService
from featurewire_server.tails import Tails

log = logging.getLogger("featurewire.server")

_SERVICE = pb.DESCRIPTOR.services_by_name["SplitInferenceService"].full_name


class Server:
    """A server of tails.

    Example:
        server = Server(ServerConfig(models=("tiny-llama3",), listen="127.0.0.1:0"))
        await server.start()
        print(server.address)
        await server.stop()
    """

    def __init__(self, config: ServerConfig) -> None:
        """Loads the models and the codec, whose kernels are compiled before anyone is served.

        Raises:
            ModelError: a model, a split point or its weights are not there.
        """
        self._config = config
        self._service: SplitInferenceService | None = None
        if config.threads:
            torch.set_num_threads(config.threads)
        self._tails = Tails(config)
        if not config.threads and place(config.dtype, config.device).device.type == "cuda":
            torch.set_num_threads(1)  # one asks a GPU for all it does; others would spin beside it
        warm_up()
        self._scheduler = Scheduler(config.workers, config.max_batch, torch.get_num_threads())
        self._decoders = ThreadPoolExecutor(
            coding_threads(), "decode", initializer=use_threads, initargs=(1,)
        )
        self._registry = CollectorRegistry()
        self._metrics = ServerMetrics(self._registry)
        self._budget = CacheBudget(config.cache_mb << 20, self._metrics.cache_bytes.set)
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()
        self._http: tuple[WSGIServer, Thread] | None = None
        self.address = ""

    @property
    def models(self) -> list[pb.Model]:
        return self._tails.describe()

    @property
    def open_sessions(self) -> int:
        """Sessions open now."""
        return self._service.open_sessions if self._service else 0

    @property
    def reserved_cache_bytes(self) -> int:
        """What the caches of all generations may grow to."""
        return self._budget.reserved

    async def start(self) -> None:
        """Listens, and answers health checks with SERVING.

        Raises:
            ListenError: the address or the metrics port cannot be listened on.
        """
        host, _, _ = self._config.listen.rpartition(":")
        server = grpc.aio.server(options=limits.SERVER_OPTIONS)
        shared = Shared(
            self._scheduler,
            self._decoders,
            self._metrics,
            self._budget,
            self._config.batch_wait_ms / 1000,
        )
        self._service = service = SplitInferenceService(self._tails, shared, self._config)
        rpc.add_SplitInferenceServiceServicer_to_server(service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            port = server.add_insecure_port(self._config.listen)
        except RuntimeError as error:
            raise ListenError("", self._config.listen) from error
        if self._config.metrics_port:
            try:
                self._http = self._serve_metrics(host)
            except OSError as error:
                address = f"{host}:{self._config.metrics_port}"
                raise ListenError("metrics ", address) from error
        await server.start()
        self._server = server
        self.address = f"{host}:{port}"
        for name in ("", _SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def _serve_metrics(self, host: str) -> tuple[WSGIServer, Thread]:
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        return start_http_server(self._config.metrics_port, host, self._registry)

    async def stop(self) -> None:
        """Refuses new requests, lets those under way end within the grace time, and closes."""
        started = time.monotonic()
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            assert self._service is not None
            await self._service.go_away()
            await self._server.stop(self._config.grace_s)
            await self._service.ended()
        if self._http is not None:
            http, thread = self._http
            http.shutdown()
            http.server_close()
            thread.join()
        self._scheduler.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        log.info("stopped after %.1f s", time.monotonic() - started)
