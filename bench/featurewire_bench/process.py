"""featurewire-server as a process of its own: models in, the address of a healthy server out."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from featurewire_bench.errors import ServerProcessError

# by module, not by script: the server of this very environment, wherever its bin folder is
COMMAND = (sys.executable, "-c", "from featurewire_server.cli import main; main()")
POLL_S = 0.1
STOP_S = 10.0  # grace after SIGTERM
TOLD_LINES = 15  # the server's last lines that an error repeats


def free_port() -> int:
    """A TCP port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """A server on loopback, healthy inside the `with` block and ended after it."""

    def __init__(
        self,
        models: Sequence[str],
        options: Sequence[str] = (),
        start_timeout_s: float = 120.0,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._command = [*command, "--listen", self.address, "--metrics-port", "0", *options]
        for model in models:
            self._command += ["--model", model]
        self._timeout_s = start_timeout_s
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def id(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Everything the server has printed so far."""
        if self._log is None:
            return ""
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends the server a signal, by default the one that it cannot hear."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """The exit code of a server that ends within the time."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def __enter__(self) -> Self:
        self._log = tempfile.NamedTemporaryFile(prefix="featurewire-server-", suffix=".log")
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=environment,
        )
        try:
            self._wait_until_serving(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _wait_until_serving(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._timeout_s
        with grpc.insecure_channel(self.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline:
                if (code := process.poll()) is not None:
                    raise ServerProcessError(self._told(f"the server ended with code {code}"))
                try:
                    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
                except grpc.RpcError:
                    pass  # not listening yet
                else:
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                time.sleep(POLL_S)
        raise ServerProcessError(
            self._told(f"the server is not SERVING after {self._timeout_s:g} s")
        )

    def _told(self, what: str) -> str:
        lines = self.log().strip().splitlines()[-TOLD_LINES:]
        return what + (
            "; its last lines:\n  " + "\n  ".join(lines) if lines else "; it printed nothing"
        )
