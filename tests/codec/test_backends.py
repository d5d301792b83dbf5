"""The two backends: the same bytes and values; and what compiled kernels promise to a service."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from featurewire_codec import FeatureCodec, FeatureError, Profile
from featurewire_codec.backend import VARIABLE, load_backend
from featurewire_codec.kernels import ans, panels
from synthetic_features import make_grid, make_one_sided, make_tokens, make_words

SNRS_DB = (2.0, 15.0, 90.0)  # the last one has raw bits


def coded(profile: Profile | None, feature: np.ndarray, grid=None) -> list[bytes]:
    codec = FeatureCodec(profile)
    made = [codec.encode(feature, snr_db, grid) for snr_db in SNRS_DB]
    return [*made, codec.encode(feature, max_error=0.01, grid=grid)]


@pytest.mark.parametrize(
    "kind", ["plain", "token", "wide", "grid", "codebook", "rectified", "wild"]
)
def test_both_backends_make_the_same_bytes_and_values(kind, request, with_backend):
    profile, feature, grid = None, make_tokens(31, 90), None
    if kind in ("token", "codebook"):
        profile = request.getfixturevalue(f"{kind}_profile")
        feature = make_tokens(31, 300) if kind == "token" else make_words(31, 700)
    elif kind == "wide":  # four lanes, and two chunks
        feature = make_tokens(32, 700, 512)
    elif kind == "grid":
        profile, grid = request.getfixturevalue("grid_profile"), (21, 18)
        feature = make_grid(31, *grid, prefix=1)
    elif kind == "rectified":
        profile, grid = request.getfixturevalue("rectified_profile"), (21, 18)
        feature = make_one_sided(31, *grid)
        assert profile.transform.mode == "one-sided"
    elif kind == "wild":
        feature[3:60:7, 4] *= 1000
    streams = []
    for name in ("numba", "constriction"):
        with_backend(name)
        streams.append(coded(profile, feature, grid))
    assert streams[0] == streams[1]
    for data in streams[0]:
        values = []
        for name in ("numba", "constriction"):
            with_backend(name)
            values.append(FeatureCodec(profile).decode(data))
        assert torch.equal(*values)


def test_kernels_switched_off_make_identical_bytes_in_a_process_of_their_own(
    token_profile, tmp_path
):
    token_profile.save_pretrained(tmp_path)
    np.save(tmp_path / "feature.npy", make_tokens(33, 600))
    script = (
        "import sys, numpy as np; from featurewire_codec import *;"
        f"codec = FeatureCodec(Profile.from_pretrained({str(tmp_path)!r}));"
        f"data = codec.encode(np.load({str(tmp_path / 'feature.npy')!r}), 12.0);"
        "assert 'numba' not in sys.modules; codec.decode(data);"
        "sys.stdout.buffer.write(data)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {VARIABLE: "off"},
        capture_output=True,
        check=True,
    )
    assert run.stdout == FeatureCodec(token_profile).encode(make_tokens(33, 600), 12.0)


@pytest.mark.parametrize("value", ["0", "false", "OFF", ""])
def test_another_value_than_on_or_off_is_refused(value, monkeypatch):
    monkeypatch.setenv(VARIABLE, value)
    load_backend.cache_clear()
    with pytest.raises(FeatureError, match="on or off is allowed"):
        load_backend()
    monkeypatch.undo()
    load_backend()


def test_importing_the_codec_imports_neither_torch_nor_numba():
    script = (
        "import sys, featurewire_codec;"
        "print([name for name in ('torch', 'numba', 'scipy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert run.stdout.strip() == "[]"


def dispatchers() -> dict[str, object]:
    found = {}
    for module in (ans, panels):
        for name, value in vars(module).items():
            if hasattr(value, "overloads"):
                found[f"{module.__name__}.{name}"] = value
    return found


def test_no_request_waits_for_a_compiler(token_profile, grid_profile):
    """Every kernel has its one signature when the codec exists, and gains none in use."""
    codecs = FeatureCodec(), FeatureCodec(token_profile), FeatureCodec(grid_profile)
    before = {name: len(value.overloads) for name, value in dispatchers().items()}
    compiled = {name: n for name, n in before.items() if dispatchers()[name].nopython_signatures}
    assert len(compiled) > 10
    for codec, feature, grid in (
        (codecs[0], make_tokens(1, 1), None),
        (codecs[0], make_tokens(1, 700, 128)[::2].astype(np.float16), None),
        (codecs[0], torch.from_numpy(make_tokens(2, 20)).bfloat16().T, None),
        (codecs[1], make_tokens(3, 40), None),
        (codecs[2], make_grid(3, 9, 9, prefix=2), (9, 9)),
    ):
        for settings in ({"snr_db": 90.0}, {"max_error": 0.1}, {"target_bits": 10**4}):
            codec.decode(codec.encode(feature, grid=grid, **settings))
    assert {name: len(value.overloads) for name, value in dispatchers().items()} == before


def test_kernels_leave_the_gil_to_other_threads():
    """While one thread is inside a kernel, this one goes on: it could not else see it start."""
    assert load_backend().name == "numba"
    assert all(value.targetoptions["nogil"] for value in dispatchers().values())
    symbols = np.zeros(1 << 26, np.uint8)
    counts = np.zeros(160, np.int64)
    counts[0] = len(symbols)
    radii = np.full(64, 13, np.int32)
    entered, enough, left = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        for _ in range(1000):  # a busy machine may not run the other thread during the first
            panels._count_escapes(symbols, counts, radii)
            if enough.is_set():
                break
        left.set()

    # A thread keeps the GIL for this long, unless it gives it away: only a kernel does so sooner.
    usual = sys.getswitchinterval()
    turns = 0
    thread = threading.Thread(target=work)
    try:
        sys.setswitchinterval(3600.0)
        thread.start()
        entered.wait()
        while not left.is_set():
            turns += 1
            if turns > 1:
                enough.set()
            left.wait(1e-4)
    finally:
        sys.setswitchinterval(usual)
    thread.join()
    assert turns > 1


@pytest.mark.usefixtures("backend")
def test_one_codec_serves_many_threads(token_profile):
    codec = FeatureCodec(token_profile)
    features = [make_tokens(seed, 30 + seed) for seed in range(12)]
    alone = [codec.encode(feature, 5.0 + n) for n, feature in enumerate(features)]

    def work(turn: int) -> bool:
        number = turn % len(features)
        data = codec.encode(features[number], 5.0 + number)
        values = codec.decode(data)
        return data == alone[number] and values.shape == features[number].shape

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(96)))


def test_who_waits_for_a_compiler_is_told_so(tmp_path):
    """With an empty cache it takes some 15 seconds, once; another process then finds the loops."""
    code = "from featurewire_codec import FeatureCodec; FeatureCodec()"
    empty = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), VARIABLE: "on"}
    told = [
        subprocess.run(
            [sys.executable, "-c", code], env=empty, capture_output=True, text=True, check=True
        ).stderr
        for _ in range(2)
    ]
    assert told[0].startswith("compiling the codec's loops")
    assert told[1] == ""
