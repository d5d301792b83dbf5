"""Mutates the golden bitstreams and decodes them: nothing but the codec's own errors may come out.

    python tests/codec/fuzz.py --count 10000000 --processes 1 --seed 0

Most mutants of files get the CRC of their bytes, and half of these are decoded with any check taken
for right, so that what lies behind both is reached. Prints progress to stderr and a JSON summary to
stdout; exits 1 when something escaped.
"""

import argparse
import json
import multiprocessing
import random
import resource
import struct
import sys
import time
import traceback
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from featurewire_codec import ChunkError, CodecError, Decoder, Profile, coefficients
from featurewire_codec.bitstream import read_header
from featurewire_codec.cursor import varint
from featurewire_codec.span import Coding

GOLDEN = Path(__file__).parent / "golden"
EDGES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
# How often one is passed over that takes many times the work of the others.
SLOW = {"lanes": 0.9, "lane_limits": 0.9, "session_wrapping": 0.95}
SLOW |= dict.fromkeys(("one_sided", "session_adaptive", "session_learning"), 0.6)


@dataclass
class Seed:
    """A golden bitstream, cut where its chunks are, and what decodes it.

    Of a session's messages it is the first.
    """

    name: str
    data: bytes
    head: bytes
    bodies: list[bytes]
    profile: Profile | None
    coding: Coding | None
    shape: tuple[int, int] | None
    grid: tuple[int, int] | None

    @classmethod
    def of(cls, name: str, facts: dict[str, Any]) -> "Seed":
        data = (GOLDEN / f"{name}.fw").read_bytes()
        if "bytes" in facts:  # a session's first message; those behind it need what it taught
            data, facts = data[: facts["bytes"][0]], facts | {"shape": first_shape(facts)}
        profile = None
        if facts["profile"]:
            profile = Profile.from_pretrained(GOLDEN / f"{facts['profile']}.profile")
        shape = tuple(facts["shape"]) if facts.get("shape") else None
        if "bytes" in facts:
            data, shape = data[: facts["bytes"][0]], (facts["tokens"][0], facts["shape"][1])
        grid = tuple(facts["grid"]) if facts.get("grid") else None
        head, bodies = data[:2], [data[2:]]
        if shape is None:
            found = read_header(data)
            assert found is not None
            head, bodies, place = data[: found[1]], [], found[1]
            while place < len(data):
                length, place = read_varint(data, place)
                bodies.append(data[place : place + length])
                place += length + 4
        adaptive = bool(facts.get("adaptive"))
        coding = Coding(profile, adaptive) if profile else None
        return cls(name, data, head, bodies, profile, coding, shape, grid)

    def decoder(self) -> Decoder:
        if self.coding is not None:
            self.coding.reset()
        return Decoder(self.profile, self.coding, self.shape, self.grid)


def first_shape(facts: dict[str, Any]) -> list[int]:
    return [facts["tokens"][0], facts["shape"][1]]


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def seeds() -> list[Seed]:
    index = json.loads((GOLDEN / "index.json").read_text())
    return [Seed.of(name, facts) for name, facts in index.items()]


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Change bytes in one to four places: bits, values, lengths, cuts, insertions, splices."""
    out = bytearray(data)
    for _ in range(1 if rng.random() < 0.6 else rng.randint(2, 4)):
        kind = rng.randrange(8)
        place = rng.randrange(len(out)) if out else 0
        if rng.random() < 0.5:  # the fields at the front decide most
            place = min(place, rng.randrange(12))
        if kind <= 1 and out:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 2 and out:
            out[place] = rng.choice(EDGES) if rng.random() < 0.5 else rng.randrange(256)
        elif kind == 3:
            del out[place : place + rng.randint(1, 8)]
        elif kind == 4:
            out[place:place] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 8)))
        elif kind == 5:
            out[place : place + 1] = varint(1 << rng.randrange(40))
        elif kind == 6:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            out[place:] = other[start:]
        elif kind == 7:
            del out[place:]
    return bytes(out)


def frame(body: bytes, head: bytes) -> bytes:
    framed = varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed, zlib.crc32(head)))


@dataclass
class Pool:
    """What splices take from: whole bitstreams, their heads, their chunks' bodies."""

    whole: list[bytes]
    heads: list[bytes]
    bodies: list[bytes]


def mutant(seed: Seed, pool: Pool, rng: random.Random) -> tuple[bytes, str]:
    """Return a mutated bitstream, and how it was made."""
    if rng.randrange(4) == 0:  # the framing itself
        return mutate(seed.data, pool.whole, rng), "bytes"
    own, head = list(seed.bodies), seed.head
    if rng.random() < 0.3:
        head = mutate(head, pool.heads, rng)
    place = rng.randrange(len(own))
    own[place] = mutate(own[place], pool.bodies, rng)
    if rng.random() < 0.1:
        rng.shuffle(own)
    if rng.random() < 0.05:
        own.append(rng.choice(own))
    if seed.shape is not None:
        return head + b"".join(own), "session"
    return head + b"".join(frame(body, head) for body in own), "right CRC"


class FreeCheck:
    """While it holds, a decoder takes any end of the words: as if the check were always right.

    What an attacker who computes the check can reach, random words reach through this.
    """

    def __enter__(self) -> None:
        self._class = coefficients.load_backend().coder.Decoder
        self._finish = self._class.finish
        self._class.finish = lambda decoder: None

    def __exit__(self, *_: object) -> None:
        self._class.finish = self._finish


def attempt(seed: Seed, data: bytes, rng: random.Random, outcomes: Counter[str]) -> None:
    """Decode a mutant as a service would: on after each damaged chunk."""
    decoder = seed.decoder()
    pieces = [data]
    if rng.random() < 0.1 and seed.shape is None:
        cut = rng.randrange(len(data) + 1)
        pieces = [data[:cut], data[cut:]]
    outcome = "decoded"
    for piece in pieces:
        feed = piece
        for _ in range(64):
            try:
                for rows in decoder.feed(feed):
                    if not np.isfinite(rows.values.numpy()).all():
                        raise AssertionError("values that are not finite")
                break
            except ChunkError as error:
                outcome = reason(error)
                feed = b""
            except CodecError as error:
                outcomes[reason(error)] += 1
                return
    try:
        decoder.finish()
    except CodecError as error:
        outcome = reason(error) if outcome == "decoded" else outcome
    outcomes[outcome] += 1


def reason(error: CodecError) -> str:
    """Return the error's class and its message without numbers."""
    words = [word for word in str(error).split() if word.isalpha()]
    return f"{type(error).__name__}: {' '.join(words)[:60]}"


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def run(count: int, seed: int, seconds: float | None = None, show: bool = False) -> dict[str, Any]:
    """Decode `count` mutants, or as many as `seconds` allow; the summary."""
    rng, sources = random.Random(seed), seeds()
    torch.set_num_threads(1)  # threads for such small products only get in each other's way
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    failures: list[dict[str, str]] = []
    pool = Pool(
        [source.data for source in sources],
        [source.head for source in sources],
        [body for source in sources for body in source.bodies],
    )
    free = FreeCheck()
    for source in sources:  # imports and caches are no part of the slowest decoding
        list(source.decoder().feed(source.data))
    before = peak_mib()
    started = shown = time.monotonic()
    slowest = 0.0
    done = 0
    while done < count:
        source = rng.choice(sources)
        if rng.random() < SLOW.get(source.name, 0.0):
            continue
        data, kind = mutant(source, pool, rng)
        begun = time.monotonic()
        try:
            if kind != "bytes" and rng.random() < 0.5:
                kind += ", any check"
                with free:
                    attempt(source, data, rng, outcomes)
            else:
                attempt(source, data, rng, outcomes)
        except Exception:
            error = traceback.format_exc()
            failures.append({"seed": source.name, "data": data.hex(), "error": error})
        now = time.monotonic()
        slowest = max(slowest, now - begun)
        kinds[kind] += 1
        done += 1
        if seconds is not None and now - started > seconds:
            break
        if show and now - shown > 30:
            shown = now
            rate = done / (now - started)
            print(f"{done} of {count}, {rate:.0f}/s, {len(failures)} failures", file=sys.stderr)
            sys.stderr.flush()
    return {
        "streams": done,
        "seconds": round(time.monotonic() - started, 1),
        "slowest_s": round(slowest, 3),
        "peak_mib": peak_mib(),
        "grown_mib": peak_mib() - before,
        "kinds": dict(kinds),
        "outcomes": dict(outcomes.most_common()),
        "failures": failures[:20],
        "failed": len(failures),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="stop after so long, whatever the count")
    options = parser.parse_args()
    share = -(-options.count // options.processes)
    tasks = [(share, options.seed + n, options.seconds, n == 0) for n in range(options.processes)]
    if options.processes == 1:
        parts = [run(*tasks[0])]
    else:
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            parts = pool.starmap(run, tasks)
    whole = {
        "seed": options.seed,
        "streams": sum(part["streams"] for part in parts),
        "seconds": max(part["seconds"] for part in parts),
        "slowest_s": max(part["slowest_s"] for part in parts),
        "peak_mib": max(part["peak_mib"] for part in parts),
        "failed": sum(part["failed"] for part in parts),
    }
    for name in ("kinds", "outcomes"):
        total: Counter[str] = Counter()
        for part in parts:
            total.update(part[name])
        whole[name] = dict(total.most_common())
    whole["failures"] = [failure for part in parts for failure in part["failures"]]
    print(json.dumps(whole, indent=1))
    sys.exit(1 if whole["failed"] else 0)


if __name__ == "__main__":
    main()
