"""The committed generated code is what the .proto gives."""

from pathlib import Path

import grpc_tools
import pytest
from grpc_tools import protoc

PROTO = Path(__file__).parents[2] / "proto"
NAMES = ("featurewire_pb2.py", "featurewire_pb2.pyi", "featurewire_pb2_grpc.py")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("proto")
    include = Path(grpc_tools.__file__).parent / "_proto"
    kinds = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    source = "featurewire/v1/featurewire.proto"
    assert protoc.main(["protoc", f"-I{PROTO}", f"-I{include}", *kinds, source]) == 0
    return out / "featurewire" / "v1"


@pytest.mark.parametrize("name", NAMES)
def test_generating_again_changes_nothing(fresh, name):
    assert (fresh / name).read_text() == (PROTO / "featurewire" / "v1" / name).read_text()
