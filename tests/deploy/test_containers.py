"""What the container files say exists: commands, options, ports, folders, models."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main
import yaml
from featurewire_client.cli import app as client_app
from featurewire_client.profiles import CACHE
from featurewire_models import describe
from featurewire_server.cli import app as server_app
from featurewire_server.config import ServerConfig

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROMETHEUS = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def parse(app: typer.Typer, arguments: list[str]) -> dict:
    """The parameters that a command line comes to; raises on an option that does not exist."""
    command = typer.main.get_command(app)
    if hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    return command.make_context("command", list(arguments)).params


def ports_of(service: str) -> set[int]:
    return {int(port.split(":")[1]) for port in COMPOSE["services"][service].get("ports", [])}


def test_compose_has_server_client_and_prometheus():
    assert set(COMPOSE["services"]) == {"server", "client", "prometheus"}


@pytest.mark.parametrize("service", ["server", "client"])
def test_each_service_is_built_from_a_target_that_the_dockerfile_has(service):
    build = COMPOSE["services"][service]["build"]
    dockerfile = ROOT / build["context"] / build["dockerfile"]
    assert re.search(rf"^FROM base AS {build['target']}$", dockerfile.read_text(), re.M)


def test_the_images_commands_are_those_that_the_project_installs():
    entrypoints = re.findall(r'^ENTRYPOINT \["([^"]+)"\]$', DOCKERFILE, re.M)
    assert entrypoints == ["featurewire-server", "featurewire"]
    assert set(entrypoints) <= set(SCRIPTS)


def test_everything_that_the_image_copies_is_there():
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


def test_the_servers_command_line_is_understood_and_its_ports_are_published():
    arguments = parse(server_app, COMPOSE["services"]["server"]["command"])
    for model in arguments["model"]:
        assert describe(model).name == model
    listen = int(arguments["listen"].split(":")[1])
    assert ports_of("server") == {listen, arguments["metrics_port"]}


def test_the_image_exposes_the_ports_that_its_own_command_listens_on():
    words = re.search(r"^CMD (\[\"--model.+\])$", DOCKERFILE, re.M)
    arguments = parse(server_app, yaml.safe_load(words[1]))
    exposed = {int(port) for port in re.search(r"^EXPOSE (.+)$", DOCKERFILE, re.M)[1].split()}
    assert exposed == {int(arguments["listen"].split(":")[1]), arguments["metrics_port"]}
    assert exposed == {int(ServerConfig.listen.split(":")[1]), ServerConfig.metrics_port}


def test_the_clients_command_line_is_understood_and_finds_the_server():
    arguments = parse(client_app, COMPOSE["services"]["client"]["command"])
    name, port = arguments["server"].split(":")
    assert name in COMPOSE["services"]
    assert int(port) in ports_of(name)


def test_the_health_check_is_a_command_that_exists():
    words = re.search(r"HEALTHCHECK.*\\\n\s+CMD (\[.+\])", DOCKERFILE)
    command, *arguments = yaml.safe_load(words[1])
    assert command in SCRIPTS
    assert parse(client_app, arguments)["server"].endswith(":50051")


def test_prometheus_scrapes_the_port_that_the_server_publishes():
    (job,) = PROMETHEUS["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert int(port) in ports_of(name)
    (mount,) = COMPOSE["services"]["prometheus"]["volumes"]
    assert (ROOT / mount.split(":")[0]).is_file()


def test_the_image_takes_the_torch_of_the_constraints():
    pattern = re.search(r"grep '([^']+)' constraints.txt", DOCKERFILE)[1]
    pins = re.findall(pattern + ".+", (ROOT / "constraints.txt").read_text(), re.M)
    assert pins == ["torch==2.13.0"]


def test_the_images_user_finds_the_kernels_compiled_in_a_folder_of_its_own():
    user, rest = DOCKERFILE.split("\nUSER ", 1)
    assert "useradd --create-home featurewire" in user
    cache = re.search(r"^ENV NUMBA_CACHE_DIR=/home/featurewire/(\S+)$", rest, re.M)
    assert rest.startswith("featurewire\n")
    program = re.search(r'python -W error -c "(.+)"$', rest[cache.end() :], re.M)[1]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout == "numba\n"


def test_the_clients_volume_is_a_folder_that_the_image_gives_its_user():
    (mount,) = COMPOSE["services"]["client"]["volumes"]
    folder = mount.split(":")[1]
    assert DOCKERFILE.index("\nUSER featurewire") < DOCKERFILE.index(f"mkdir --parents {folder}")
    assert str(CACHE.relative_to(Path.home())).startswith(folder.removeprefix("/home/featurewire/"))
