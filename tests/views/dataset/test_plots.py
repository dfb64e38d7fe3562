"""The tables and pictures of a dataset: what they say is what the files hold."""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import mmcv
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from small_dataset import annotation, load, save, write_dataset
from workbook import notebooks as notebook
from workbook.data.catalog import find_dataset
from workbook.data.objects import REACH, counts, objects, reach, resized_to
from workbook.data.parameters import DataParameters
from workbook.data.reading import DataError
from workbook.views.dataset import plots as data_plots

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Train: 3 small and 1 medium object. Val: one small dog, one medium cat, a crowd and an empty image."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    folder = write_dataset(tmp_path / "pets")
    save(folder, "val", {**load(folder, "val"), "annotations": [
        annotation(1, 1, [5.0, 5.0, 10.0, 20.0]), annotation(2, 2, [5.0, 5.0, 40.0, 40.0], 7),
        annotation(3, 2, [0.0, 0.0, 9.0, 9.0], iscrowd=1)]})
    return find_dataset("pets")


@pytest.mark.parametrize("image_size", [(64, 64), (400, 400), (1333, 800), (800, 1333), (33, 500)])
@pytest.mark.parametrize("sides", [(64, 48), (48, 64), (1024, 1024), (299, 400), (4000, 31)])
def test_the_resize_is_the_one_of_training(sides, image_size):
    assert resized_to(*sides, image_size) == mmcv.rescale_size(sides, image_size)


def test_objects_before_and_after_the_resize(dataset):
    found = objects(dataset, (32, 32))  # the images are 64x48: halved
    assert len(found) == 6 and found["scale"].tolist() == [0.5] * 6  # the crowd is no object
    val = found[found["split"] == "val"]
    assert val["class"].tolist() == ["dog", "cat"] and val["area"].tolist() == [200, 1600]
    assert val["size"].tolist() == ["small", "medium"] and val["size_resized"].tolist() == ["small", "small"]
    assert val["area_resized"].tolist() == [50, 400] and val["side"].tolist() == [10, 40]


def test_counts(dataset):
    table = counts(dataset)
    assert table.loc[("val", "all")].to_dict() == {
        "images": 3, "objects": 2, "small": 1, "medium": 1, "large": 0, "crowds": 1, "empty images": 1}
    assert table.loc[("train", "dog"), "objects"] == 2 and table.loc[("val", "cat"), "images"] == 1


def test_reach_goes_by_the_best_iou_with_a_square_of_32_pixels(dataset):
    sides = {"under .3": (17, 17.5), ".3 to .7": (18, 26), ".7 or more": (27, 200), "left out": (0.5, 0.9)}
    for step, its in sides.items():
        found = objects(dataset, (64, 64)).iloc[:2].copy()
        found["side"] = its
        found["area_resized"] = [side**2 for side in its]
        table = reach(found)
        row = next(name for name in REACH if name.startswith(step))
        assert table.loc[row, "train"] == table["train"].sum() == 2 and table.loc[row, "train share"] == 1
    assert list(table.index) == list(REACH)


def test_class_counts_draws_every_count(dataset):
    ax = data_plots.class_counts(counts(dataset))
    assert sorted(bar.get_width() for group in ax.containers for bar in group) == [1, 1, 2, 2]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["train (n = 4 in 3 images)", "val (n = 2 in 3 images)"]
    assert len({group[0].get_hatch() for group in ax.containers}) == 2  # told apart without colour


def test_a_class_without_objects_says_so(dataset):
    table = counts(dataset)
    table.loc[("val", "cat"), "objects"] = 0
    assert " no objects" in [text.get_text() for text in data_plots.class_counts(table).texts]


def test_object_sizes_add_up_and_move_with_the_resize(dataset):
    found = objects(dataset, (32, 32))
    before, after = data_plots.object_sizes(found)
    assert [text.get_text() for text in before.texts] == ["small 67%", "medium 33%", "large 0%"]
    assert [text.get_text() for text in after.texts] == ["small 100%", "medium 0%", "large 0%"]
    assert "32x32" in after.get_title(loc="left") + after.get_title()
    assert before.get_ylim() == after.get_ylim() and before.get_xlim() == after.get_xlim()
    for ax in (before, after):
        low, high = ax.get_xlim()
        assert all(low < text.get_position()[0] < high for text in ax.texts) and low < 32 / 1.5 and high > 96 * 1.5
    for line in (32, 96):
        assert any(np.allclose(drawn.get_xdata(), line) for drawn in before.lines)
    for ax in (before, after):
        for split in (patch for patch in ax.patches if patch.get_label().startswith("val")):
            assert split.get_xy()[:, 1].max() == pytest.approx(50)  # two objects of val, in two bins: 50% each


def test_small_share_counts_before_and_after(dataset):
    ax = data_plots.small_share(objects(dataset, (32, 32)))
    words = {tick.get_text(): text.get_text() for tick, text in zip(ax.get_yticklabels(), ax.texts, strict=True)}
    assert words == {"dog": "train 1 → 2 of 2; val 1 → 1 of 1", "cat": "train 2 → 2 of 2; val 0 → 1 of 1"}
    assert [point.get_offsets()[0, 0] for point in ax.collections] == pytest.approx([200 / 3, 100, 200 / 3, 100])


def test_sample_pictures_show_every_box_in_its_place(dataset):
    panels = data_plots.sample_pictures(dataset, split="val", seed=1)
    assert len(panels) == 3
    boxes_xywh = {(box.get_x(), box.get_y(), box.get_width(), box.get_height()): box.get_linestyle()
                  for ax in panels for box in ax.patches if isinstance(box, Rectangle)}
    assert set(boxes_xywh) == {(5, 5, 10, 20), (5, 5, 40, 40), (0, 0, 9, 9)}
    assert len(set(boxes_xywh.values())) == 3  # small, medium and crowd, told apart without colour
    for ax in panels:
        name = (ax.get_title() or ax.get_title(loc="left")).splitlines()[0]
        shown = mmcv.imread(str(dataset.images_dir / name), channel_order="rgb")
        assert np.array_equal(ax.images[0].get_array(), shown)
    titles = sorted((ax.get_title() or ax.get_title(loc="left")).splitlines()[1] for ax in panels)
    assert titles == ["n = 0, 0 small", "n = 1, 0 small", "n = 1, 1 small"]


def test_sample_pictures_go_by_their_seed(dataset):
    def names(seed):
        panels = data_plots.sample_pictures(dataset, split="train", count=2, seed=seed)
        return [ax.get_title() or ax.get_title(loc="left") for ax in panels]
    assert names(0) == names(0) and len({tuple(names(seed)) for seed in range(5)}) > 1


def test_a_picture_that_cannot_be_read_is_named(dataset):
    (dataset.images_dir / "val_2.png").write_bytes(b"")
    with pytest.raises(DataError, match="val_2.png cannot be read: `workbook check pets` says why"):
        data_plots.sample_pictures(dataset)


def test_a_parameter_that_the_notebook_does_not_have_is_refused():
    cells = ["dataset = 'a'", "# Parameters\ndatset = \"b\"\nimage_size = [1, 2]\n"]
    assert notebook.injected(cells) == {"datset": "'b'", "image_size": "[1, 2]"}
    with pytest.raises(ValueError, match="datset: no such parameter. Allowed: dataset, image_size"):
        notebook.notebook_parameters(DataParameters, {"In": cells})
    assert notebook.notebook_parameters(DataParameters, {"In": cells[:1], "dataset": "a"}).dataset == "a"


@pytest.mark.parametrize("parameters, answer", [
    ({}, "no problems"),
    ({"datset": "pets"}, "datset: no such parameter. Allowed: dataset, image_size"),
])
def test_the_notebook_runs_and_refuses(parameters, answer, dataset, tmp_path):
    asked = {"dataset": "pets", "image_size": 64, **parameters}
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "1_data.ipynb"), str(tmp_path / "out.ipynb")]
    for name, value in asked.items():
        command += ["-p", name, str(value)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    executed = (tmp_path / "out.ipynb").read_text()
    assert answer in executed, done.stderr
    assert (done.returncode == 0) == (parameters == {})
    outputs = [output for cell in json.loads(executed)["cells"] for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert pictures == (5 if parameters == {} else 0)
    assert not any(output.get("name") == "stderr" for output in outputs)
