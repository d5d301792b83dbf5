"""What is no answer is said, and never taken for one."""

import asyncio

import grpc
import pytest
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire_client import SessionError
from featurewire_client.connection import Connection
from featurewire_client.session import Session


class SaysNothing(rpc.SplitInferenceServiceServicer):
    async def Infer(self, requests, context):  # noqa: N802 (the name that the .proto gives)
        await anext(requests)
        await context.write(pb.InferResponse(handshake=pb.HandshakeReply()))
        await context.write(pb.InferResponse())
        await asyncio.sleep(60)


async def test_an_empty_message_is_not_taken_for_an_account():
    server = grpc.aio.server()
    rpc.add_SplitInferenceServiceServicer_to_server(SaysNothing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(address) as channel:
        stub = rpc.SplitInferenceServiceStub(channel)
        connection = Connection(address, channel, stub, pb.ListModelsResponse())
        session = await Session.open(connection, pb.Handshake())
        with pytest.raises(SessionError, match="a nameless message where an answer was expected"):
            await asyncio.wait_for(session.answer(1), 10)
        await session.close()
    await server.stop(None)
