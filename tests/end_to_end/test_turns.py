"""A client's requests take turns, none waits for ever, and a closed client says that it is."""

import asyncio

import pytest
import torch
from featurewire_client import ClientError, DeadlineError, SplitClient, SyncSplitClient

MODEL = "tiny-llama3"


async def text_of(client: SplitClient, prompt: str, **settings) -> str:
    return "".join([piece async for piece in client.generate(prompt, **settings)])


async def test_a_call_beside_a_generation_that_nobody_takes_on_ends_in_time_and_says_so(serve):
    async with serve(MODEL) as server, SplitClient(server.address, MODEL, timeout_s=3.0) as client:
        whole = await text_of(client, "Return the", max_tokens=8)
        pieces = client.generate("Return the", max_tokens=8)
        text = await anext(pieces)
        with pytest.raises(DeadlineError, match=r"a generation of this client is still under way"):
            await asyncio.wait_for(text_of(client, "The", max_tokens=2), 10)
        with pytest.raises(DeadlineError, match=r"close it \(aclose\)"):
            await asyncio.wait_for(client.infer({"input_ids": torch.tensor([[5, 6]])}), 10)
        # whoever waited in vain has not harmed it
        assert text + "".join([piece async for piece in pieces]) == whole
        assert client.last_stats.replays == 0


async def test_whatever_is_called_on_a_closed_client_says_that_it_is_closed(serve):
    inputs = {"input_ids": torch.tensor([[5, 6]])}
    async with serve(MODEL) as server:
        client = SplitClient(server.address, MODEL)
        for call in (client.infer(inputs), text_of(client, "The", max_tokens=2)):
            with pytest.raises(ClientError, match="client is closed"):
                await call  # not open yet
        async with client:
            pieces = client.generate("Return the", max_tokens=8)
            await anext(pieces)
        for call in (client.infer(inputs), text_of(client, "The", max_tokens=2), anext(pieces)):
            with pytest.raises(ClientError, match="client is closed"):
                await call
        async with client:
            assert (await client.infer(inputs)).stats.features

        def without_async() -> None:
            with SyncSplitClient(server.address, MODEL) as other:
                begun = other.generate("Return the", max_tokens=8)
                next(begun)
            for call in (lambda: other.infer(inputs), lambda: next(begun)):
                with pytest.raises(ClientError, match="client is closed"):
                    call()

        await asyncio.to_thread(without_async)
