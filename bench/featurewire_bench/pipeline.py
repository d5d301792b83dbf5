"""The ideal pipeline: what stages take one after the other in; what they could take together out.

Ideal for a prompt of a causal model, whose spans go through all stages at once: the longest of the
wire's time at the link's rate, the processor's time of all stages over the cores they share, and
the slowest stage; then one round trip, and one span of each other stage. For a feature that the
tail needs whole: head, then the longest of encoding, wire and decoding, then tail and one round
trip. The stages' times may be those of one after the other in this process, on one thread, which is
`alone_of`, or what their threads had in a request (`stage_time`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import sub
from pathlib import Path

import torch
from featurewire.wire.coder import Coder
from featurewire_client.span import span_tokens
from featurewire_models import load_head, load_tail


def ideal_ms(
    stages_ms: Sequence[float], wire_ms: float, rtt_ms: float, spans: int, cores: int
) -> float:
    """Milliseconds of the ideal pipeline.

    Args:
        stages_ms: head, encoding, decoding and tail: processor's time.
        wire_ms: of all bytes at the link's rate.
        rtt_ms: round trip of the link.
        spans: that a prompt goes in; 0: the tail needs the feature whole.
        cores: that the stages of a prompt share.
    """
    head_ms, encode_ms, decode_ms, tail_ms = stages_ms
    if not spans:
        return head_ms + max(encode_ms, wire_ms, decode_ms) + tail_ms + rtt_ms
    others_ms = sum(sorted([wire_ms, *stages_ms])[:-1]) / spans
    return max(wire_ms, sum(stages_ms) / cores, *stages_ms) + rtt_ms + others_ms


def alone_of(
    model: Path, split: str, inputs: dict[str, torch.Tensor], snr_db: float
) -> Callable[[], tuple[float, ...]]:
    """A function that runs all stages one after the other: milliseconds of each.

    Head, encoding, decoding and tail; a prompt goes in spans, with caches.
    """
    head, tail = load_head(model, split), load_tail(model, split)
    coder, is_prompt = Coder("featurewire", {}), "input_ids" in inputs
    parts = [inputs]
    if is_prompt:
        span = span_tokens(inputs["input_ids"].shape[1])
        parts = [{"input_ids": ids} for ids in torch.split(inputs["input_ids"], span, 1)]

    def run() -> tuple[float, ...]:
        spent = [0.0] * 4
        caches = (head.new_cache(), tail.new_cache()) if is_prompt else (None, None)
        with torch.inference_mode():
            for part in parts:
                times = [time.perf_counter()]
                features = head(part, cache=caches[0])
                ((name, tensor),) = features.tensors.items()
                times.append(time.perf_counter())
                grid, shape = features.grids.get(name), (tensor.shape[1], tensor.shape[2])
                pieces = list(coder.encode(name, tensor[0], grid, snr_db))
                times.append(time.perf_counter())
                decoder = coder.decoder(name, shape, grid)
                for piece in pieces:
                    decoder.feed(piece)
                decoded = replace(features, tensors={name: decoder.finish()[None]})
                times.append(time.perf_counter())
                tail.step(decoded, caches[1]) if caches[1] is not None else tail(decoded)
                times.append(time.perf_counter())
                spent = [sum(pair) for pair in zip(spent, map(sub, times[1:], times), strict=True)]
        return tuple(1000 * seconds for seconds in spent)

    return run
