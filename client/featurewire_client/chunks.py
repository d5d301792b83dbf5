"""A feature's chunks: features in, pieces of coded samples out, none larger than is asked for."""

import time
from collections.abc import Iterable, Iterator, Sequence

from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder
from featurewire_codec.encoder import CHUNK_FEATURES
from featurewire_models import Features

from featurewire_client.head_pass import Seconds


def is_long(points: int) -> bool:
    """Whether so many feature points are coded in several chunks, sent as they come."""
    return points > CHUNK_FEATURES


def chunks_of(coder: Coder, features: Features, snr_db: float) -> Iterator[pb.Chunk]:
    """Every sample of every tensor, one bitstream each; the last chunk says that it is.

    A small feature's last chunk is held back until it is known to be the last. One of many chunks
    ends with an empty one instead: none of them waits for the next to be coded.
    """
    long = is_long(sum(tensor.numel() for tensor in features.tensors.values()))
    held = pb.Chunk()
    for index, (name, tensor) in enumerate(features.tensors.items()):
        for number, sample in enumerate(tensor):
            for piece in coder.encode(name, sample, features.grids.get(name), snr_db):
                if held.payload:
                    yield held
                held = pb.Chunk(tensor=index, sample=number, payload=piece)
                if long:
                    yield held
                    held = pb.Chunk(tensor=index, sample=number)
    held.last = True
    yield held


def cut(chunks: Iterable[pb.Chunk], sizes: Sequence[int]) -> Iterator[pb.Chunk]:
    """Chunks cut into smaller ones of these sizes, the last size again and again; none: as is."""
    place = 0
    for chunk in chunks:
        payload = chunk.payload
        while sizes and len(payload) > (size := sizes[min(place, len(sizes) - 1)]):
            yield pb.Chunk(tensor=chunk.tensor, sample=chunk.sample, payload=payload[:size])
            payload, place = payload[size:], place + 1
        if len(payload) == len(chunk.payload):
            yield chunk
            continue
        rest = pb.Chunk(tensor=chunk.tensor, sample=chunk.sample, payload=payload)
        rest.last, rest.tokens = chunk.last, chunk.tokens
        yield rest


def next_chunk(chunks: Iterator[pb.Chunk], seconds: Seconds) -> pb.Chunk | None:
    """The next one, counted in; None: there is none."""
    started = time.perf_counter()
    chunk = next(chunks, None)
    payload_bytes = len(chunk.payload) if chunk is not None else 0
    seconds.count(time.perf_counter() - started, payload_bytes)
    return chunk
