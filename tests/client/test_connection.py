"""A server of another protocol is refused before anything of it is relied on."""

import pytest
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire_client import RefusedError
from featurewire_client.connection import Connection


def connection(least: int, most: int) -> Connection:
    catalogue = pb.ListModelsResponse(protocol_min=least, protocol_max=most)
    return Connection("cloud:50051", None, None, catalogue)


def test_a_server_of_the_protocol_before_is_refused_with_both_values():
    with pytest.raises(
        RefusedError, match=r"client has '6 to 6', the server .* '5 to 5'"
    ) as caught:
        connection(5, 5).check_protocol()
    assert caught.value.reason == "PROTOCOL_MISMATCH"
    assert (caught.value.found, caught.value.allowed) == ("6 to 6", "5 to 5")


def test_a_server_that_has_our_protocol_among_others_is_taken():
    connection(limits.PROTOCOL_MIN - 1, limits.PROTOCOL_MAX + 1).check_protocol()
