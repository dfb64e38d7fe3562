"""Every row of docs/bad-inputs.md for real, and the images that are handled followed through the real training pipeline."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from mmdet.datasets import build_dataset

import bad_inputs
from bad_data import exif, image_bytes
from bad_inputs import CASES, ELSEWHERE, PAGE, Place, answer, page
from small_dataset import HEIGHT, WIDTH, annotation, load, picture, save, write_dataset
from trained_run import Trained
from workbook.data.catalog import find_dataset
from workbook.data.checks import check_dataset
from workbook.models.backbones import find_backbone
from workbook.models.config import data_config

SAID: dict[str, str] = {}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Trained) -> Place:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    write_dataset(tmp_path / "data" / "pets")
    return Place(tmp_path, trained, monkeypatch)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.wrong)
def test_a_bad_input_gets_its_message(case: bad_inputs.Case, place: Place) -> None:
    SAID[case.wrong] = said = answer(case, place)
    assert case.says in said and bool(case.says) == bool(said), said
    assert not (place.root / "proof").exists(), "code of a file was run"


def test_the_page_shows_what_was_said() -> None:
    if len(SAID) < len(CASES):
        pytest.fail("the page is compared with what all cases say: run the whole file")
    if os.environ.get("WRITE_BAD_INPUTS"):
        PAGE.write_text(page(SAID))
    assert PAGE.read_text() == page(SAID), "run `python -m tests.bad_inputs`"


def test_there_are_enough_and_each_has_its_own_name() -> None:
    assert len(CASES) >= 40 and len({case.wrong for case in CASES}) == len(CASES)


def test_what_is_tested_elsewhere_is_there() -> None:
    for *_, file, name, words in ELSEWHERE:
        source = (Path(__file__).parent / file).read_text()
        assert f"def {name}(" in source and words in source


# ---- images that are handled, through the pipeline that trains -------------------------------------------------------

BOX = [40.0, 6.0, 12.0, 24.0]  # where the blue block is, x y w h, in the upright picture


def with_block() -> np.ndarray:
    """[48, 64, 3] RGB, grey with a blue block."""
    pixels = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    pixels[6:30, 40:52] = (20, 40, 240)
    return pixels


def turned(orientation: int) -> bytes:
    """A JPEG that EXIF turns back into the upright picture."""
    how = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    image = PIL.Image.fromarray(with_block())
    stored = image.transpose(getattr(PIL.Image.Transpose, how[orientation])) if orientation > 1 else image
    return image_bytes(stored, "JPEG", exif=exif(orientation), quality=100, subsampling=0)


def deep(channels: int) -> bytes:
    """A 16-bit PNG of the picture."""
    pixels = with_block()[..., ::-1].astype(np.uint16) * 257
    return cv2.imencode(".png", pixels if channels == 3 else pixels[..., 0])[1].tobytes()


UPRIGHT = PIL.Image.fromarray(with_block())
KINDS = {
    "CMYK": image_bytes(UPRIGHT.convert("CMYK"), "JPEG", quality=100, subsampling=0), "16-bit colour": deep(3), "16-bit grey": deep(1),
    "RGBA": image_bytes(UPRIGHT.convert("RGBA"), "PNG"), "grey": image_bytes(UPRIGHT.convert("L"), "PNG"),
    "grey with alpha": image_bytes(UPRIGHT.convert("LA"), "PNG"),
    "palette": image_bytes(UPRIGHT.convert("P", palette=PIL.Image.Palette.ADAPTIVE), "PNG"),
    "animated": image_bytes(UPRIGHT, "GIF", save_all=True, append_images=[picture(3)]),
    **{f"EXIF {orientation}": turned(orientation) for orientation in range(1, 9)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_training_sees_the_picture_and_the_box_on_its_object(kind: str, place: Place) -> None:
    (place.pets / "images" / "train_1.png").write_bytes(KINDS[kind])
    content = load(place.pets, "train")
    save(place.pets, "train", {**content, "images": content["images"][:1], "annotations": [annotation(1, 1, BOX)]})
    assert [problem for problem in check_dataset("pets") if problem.level == "error"] == []
    data = data_config(find_dataset("pets"), find_backbone("tf_efficientnet_lite0"), (128, 96), 1)["train"]
    loaded = build_dataset({**data, "pipeline": data["pipeline"][:2]})[0]
    assert loaded["img"].shape == (HEIGHT, WIDTH, 3), "the sizes that the JSON says"
    grey = kind.startswith("grey") or kind == "16-bit grey"
    wanted = with_block() if not grey else np.asarray(UPRIGHT.convert("L").convert("RGB"))
    if kind == "16-bit grey":
        wanted = np.repeat(with_block()[..., 2:], 3, axis=2)  # it was made of the blue channel
    away = np.abs(loaded["img"][..., ::-1].astype(int) - wanted)
    assert np.median(away) <= 3 and away.mean() < 8, f"the picture is another one: off by {away.mean():.1f}"
    for flip in (0.0, 1.0):
        steps = [{**step, "flip_ratio": flip} if step["type"] == "RandomFlip" else step for step in data["pipeline"]]
        item = build_dataset({**data, "pipeline": steps})[0]
        image, (box,) = item["img"].data.numpy() * 128 + 127, item["gt_bboxes"].data.numpy()  # lite0's normalization, taken back
        unlike = np.abs(image - image[:, 60:61, 60:61]).sum(axis=0) > 60  # the block differs from the grey around it
        rows, columns = np.flatnonzero(unlike[:, :128].any(axis=1)), np.flatnonzero(unlike[:96].any(axis=0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(found - box).max() <= 2.5, f"flip {flip}: the block is at {found}, its box at {box}"
