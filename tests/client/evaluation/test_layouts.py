"""Folders and files of the ordinary layouts: what is read of them, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from featurewire_client.evaluation import images
from featurewire_client.evaluation.classes import classes_of
from featurewire_client.evaluation.evaluation import spread
from featurewire_client.evaluation.prompts import read_prompts
from featurewire_client.evaluation.questions import read_questions
from featurewire_client.raw_input import read_image
from featurewire_models import InputError
from PIL import Image

LABELS = {0: "tench, Tinca tinca", 1: "crane", 2: "great grey owl", 3: "crane, machine"}


def write(path: Path, *lines: object) -> Path:
    path.write_text(
        "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    )
    return path


def folders(data: Path, *names: str) -> Path:
    for name in names:
        (data / name).mkdir()
        Image.new("RGB", (4, 4)).save(data / name / "a.png")
    return data


def test_a_folder_is_named_as_a_class_or_one_of_its_names_or_numbers(tmp_path):
    data = folders(tmp_path, "Tinca_tinca", "great grey owl", "3", ".cache")
    found = images.read_classes(data, LABELS)
    assert [(each.image.parent.name, each.label) for each in found] == [
        ("3", 3),
        ("Tinca_tinca", 0),
        ("great grey owl", 2),
    ]


def test_two_folders_may_be_of_one_class():
    assert classes_of(["Tinca tinca", "tinca_tinca", "tench", "0"], LABELS) == [0, 0, 0, 0]


def test_all_synsets_are_classes_in_their_order(tmp_path):
    data = folders(tmp_path, "n02000000", "n01000000", "n04000000", "n03000000")
    found = images.read_classes(data, LABELS)
    assert [(each.image.parent.name, each.label) for each in found] == [
        ("n01000000", 0),
        ("n02000000", 1),
        ("n03000000", 2),
        ("n04000000", 3),
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("n01000000", "is none of the model's 4 classes"),  # one synset says nothing of its place
        ("crane", "is a name of several"),
        ("4", "is none of"),
    ],
)
def test_a_folder_that_is_no_class_is_named(tmp_path, name, said):
    with pytest.raises(InputError, match=f"'{name}' {said}"):
        images.read_classes(folders(tmp_path, name), LABELS)


def test_pairs_are_found_in_sub_folders_and_by_names_with_dots(tmp_path):
    for name in ("images/val/a.b.jpg", "depth/val/a.b.npy"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
    (pair,) = images.read_pairs(tmp_path, "depth", (".npy", ".png"))
    assert pair.truth == tmp_path / "depth/val/a.b.npy"


def test_masks_are_classes_in_grey_or_by_palette(tmp_path):
    mask = np.array([[0, 3], [255, 1]], np.uint8)
    grey, palette = Image.fromarray(mask), Image.fromarray(mask).convert("P")
    palette.putdata(mask.flatten().tolist())
    for number, image in enumerate((grey, palette)):
        image.save(tmp_path / f"{number}.png")
        found = images.read_mask(tmp_path / f"{number}.png", LABELS)
        assert np.array_equal(found, mask)


def test_a_mask_in_colours_holds_no_classes(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="holds no classes: its pixels are RGB"):
        images.read_mask(tmp_path / "a.png", LABELS)


def test_depth_is_in_metres_and_0_where_it_is_not_known(tmp_path):
    Image.fromarray(np.array([[1500, 0]], np.uint16)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.array([[1.5, np.nan], [np.inf, 2]]))
    assert images.read_depth(tmp_path / "a.png").tolist() == [[1.5, 0.0]]
    assert images.read_depth(tmp_path / "a.npy").tolist() == [[1.5, 0.0], [0.0, 2.0]]


BAD_DEPTHS = {
    "8 bits": (".png", Image.new("L", (4, 4), 9), "16-bit millimetres: its pixels are L"),
    "no distance": (".npy", np.zeros((4, 4)), "no distance above 0"),
    "three axes": (".npy", np.ones((4, 4, 1)), r"shape \[height, width\]"),
    "pickled": (".npy", np.array([[None]]), "no array that can be read"),
}


@pytest.mark.parametrize("case", BAD_DEPTHS)
def test_a_depth_map_that_is_none_is_refused(tmp_path, case):
    suffix, content, said = BAD_DEPTHS[case]
    path = tmp_path / f"a{suffix}"
    if isinstance(content, Image.Image):
        content.save(path)
    else:
        np.save(path, content)
    with pytest.raises(InputError, match=said):
        images.read_depth(path)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00\x10\x00((((((((((((((("]
)
def test_bytes_that_are_no_array_are_refused(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no array that can be read"):
        images.read_depth(path)


def test_an_image_with_a_damaged_chunk_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[37:41] = b"I\x00AT"  # the second chunk's name
    path.write_bytes(content)
    with pytest.raises(InputError, match="no image that can be read"):
        read_image(path)


def test_both_layouts_of_a_question_are_the_same_question(tmp_path):
    pairs = [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]
    nested = {"question": {"stem": "Which?", "choices": pairs}, "answerKey": "2"}
    choices = {"text": ["a", "b"], "label": ["1", "2"]}
    flat = {"question": "Which?", "choices": choices, "answerKey": "2"}
    first, second = read_questions(write(tmp_path / "q.jsonl", nested, "", flat))
    assert (first.text, first.choices, first.answer) == ("Which?", ("a", "b"), 1)
    assert (second.text, second.choices, second.answer) == ("Which?", ("a", "b"), 1)
    assert (first.name, second.name) == ("q.jsonl, line 1", "q.jsonl, line 3")


def flat(texts: list[object], key: object = "A", text: object = "Which?") -> dict[str, object]:
    labels = list("ABCDE"[: len(texts)])
    return {"question": text, "choices": {"text": texts, "label": labels}, "answerKey": key}


BAD_LINES = {
    "no object": (["a"], "line 2 holds no JSON object"),
    "no answer": ({"question": "Which?"}, "line 2 is no question: .*'answerKey'"),
    "no choices": ({"question": "Which?", "answerKey": "A"}, "line 2 is no question"),
    "labels of no choice": (
        {"question": "?", "choices": {"text": ["a"], "label": ["A", "B"]}, "answerKey": "A"},
        "line 2 is no question",
    ),
    "answer that is no choice": (flat(["a", "b"], "C"), r"answerKey 'C', .* labelled \['A', 'B'\]"),
    "one choice": (flat(["a"]), r"labelled \['A'\]"),
    "empty choice": (flat(["a", " "]), "empty question or choice"),
    "choice that is no text": (flat(["a", 3]), "no text"),
    "question that is no text": (flat(["a", "b"], text=None), "no text"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_line_that_is_no_question_is_named_by_its_number(tmp_path, case):
    content, said = BAD_LINES[case]
    with pytest.raises(InputError, match=rf"q\.jsonl, .*{said}"):
        read_questions(write(tmp_path / "q.jsonl", flat(["a", "b"]), content))


def test_one_of_several_files_has_to_be_named(tmp_path):
    for name in ("test.jsonl", "dev.jsonl"):
        write(tmp_path / name, flat(["a", "b"]))
    with pytest.raises(InputError, match=r"holds dev\.jsonl, test\.jsonl; give one"):
        read_questions(tmp_path)
    assert len(read_questions(tmp_path / "dev.jsonl")) == 1


def test_prompts_have_seeds_of_their_own_or_that_of_their_place(tmp_path):
    lines = ({"prompt": "a"}, {"prompt": "b", "negative_prompt": "c", "seed": 7}, {"prompt": "d"})
    found = read_prompts(write(tmp_path / "p.jsonl", *lines), seed=20)
    assert [(each.text, each.negative, each.seed) for each in found] == [
        ("a", "", 20),
        ("b", "c", 7),
        ("d", "", 22),
    ]
    assert [each.text for each in read_prompts(write(tmp_path / "p.txt", "x", "", "y"))] == [
        "x",
        "y",
    ]


@pytest.mark.parametrize("line", [{}, {"prompt": " "}, {"prompt": "a", "seed": "1"}])
def test_a_line_without_a_prompt_is_named_by_its_number(tmp_path, line):
    with pytest.raises(InputError, match=r"p\.jsonl, line 2"):
        read_prompts(write(tmp_path / "p.jsonl", {"prompt": "a"}, line))


def test_a_limit_takes_records_evenly_from_all():
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread(range(3), 10) == [0, 1, 2]
    assert spread(range(3), None) == [0, 1, 2]
