"""A stage, a family and a picture are a file each: a toy one of each, put beside the others, is found and works throughout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import pytest
from torch import nn

from diagnosed import at, diagnosed, jittered, lost_at
from planted import Answer, Scene, scripted_rcnn
from workbook.diagnosis import families, stages
from workbook.diagnosis.families.two_stage import TWO_STAGE
from workbook.diagnosis.family import families as all_families
from workbook.diagnosis.family import family_of
from workbook.views.diagnosis import plots
from workbook.views.diagnosis.plot import show_plots
from workbook.views.diagnosis.summary import summarize

STAGE = '''
"""A toy: detections in the upper tenth of the image are false, and somebody should have masked it."""

import numpy as np

from workbook.diagnosis.stage import SortKey, Stage


def mask(replay):
    rows, scores = replay.reported()
    low = replay.candidates.boxes_xywh[rows, 1] >= 25
    return replay.with_reported(rows[low], scores[low])


MASK = Stage(
    name="mask", question="Is what cannot hold an object masked?", color="#56B4E9", hatch="--", order=45,
    loses=lambda trace: trace["found"] & False, sort_key=SortKey("area", True, "the largest first"), caption=lambda row: "",
    lost=("{n} is masked", "{n} are masked"), oracle=mask, remedies=("mask the sky",),
)
'''
FAMILY = '''
"""A toy: a detector with proposals that is called otherwise."""

from workbook.diagnosis.families.two_stage import TwoStage
from workbook.diagnosis.stages.proposals import PROPOSALS


class Toy(TwoStage):
    key = "toy"
    own_stages = (PROPOSALS,)

    def matches(self, model):
        return hasattr(model, "toy")


TOY = Toy()
'''
PLOT = '''
"""A toy picture."""

from workbook.views.diagnosis.plot import Plot
from workbook.views.style import new_axes


def draw(diagnosis):
    ax = new_axes(2, 2)
    ax.set_title(f"{len(diagnosis.trace)} objects")
    return [ax]


TOY_PLOT = Plot("toy", "A toy", "Look for nothing.", 99, draw)
'''


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The three files, each in a folder that its package also looks into."""
    for package, name, source in ((stages, "mask", STAGE), (families, "a_toy", FAMILY), (plots, "toy", PLOT)):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / f"{name}.py").write_text(source)
        extend(package, folder, monkeypatch)
    forget_parts()
    yield
    for name in ("workbook.diagnosis.stages.mask", "workbook.diagnosis.families.a_toy", "workbook.views.diagnosis.plots.toy"):
        sys.modules.pop(name, None)
    forget_parts()


def extend(package: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])


def forget_parts() -> None:
    """What a family has looked up once."""
    for family in all_families():
        for name in ("parts", "stages"):
            family.__dict__.pop(name, None)


def test_a_stage_is_one_file(added: None, tmp_path: Path) -> None:
    """Its oracle is replayed with all others, its cost stands in the waterfall, the answer and the page name it."""
    assert [stage.name for stage in TWO_STAGE.stages] == ["proposals", "class", "box", "suppression", "mask", "ranking"]
    scenes = [Scene([(box, "cat")], [Answer(box, {"cat": 0.5}), *(Answer(at(10 + 30 * n, 2, 20, 20), {"cat": 0.8}) for n in range(3))])
              for box in jittered(12)]
    saved = diagnosed(tmp_path / "run", scenes, resamples=20)
    of_size = saved.waterfall.metrics["AP"]["small"]
    assert of_size.cost("mask").shapley == pytest.approx(of_size.cost("ranking").shapley) and of_size.cost("mask").alone > 0.1
    assert of_size.ap + sum(cost.shapley for cost in of_size.stages) == pytest.approx(1, abs=1e-9)
    assert "mask the sky" in summarize(saved) and "| mask" in summarize(saved)
    show_plots(saved)
    plt.close("all")
    assert (saved.run.folder / "figures" / "waterfall.png").is_file()


def test_a_family_is_one_file(added: None, tmp_path: Path) -> None:
    """It has the stages that every family has, and its own; its runs are diagnosed, saved and read back as its own."""
    scenes = [lost_at("class", box) for box in jittered(2)]
    model = scripted_rcnn(scenes)
    assert family_of(model).key == "two_stage"
    model.toy = nn.Identity()
    assert family_of(model).key == "toy"
    saved = diagnosed(tmp_path / "run", scenes, model, resamples=2)
    assert saved.family.key == "toy" and saved.stage_names[0] == "proposals" and "box" in saved.stage_names
    assert set(saved.trace["stage"]) == {"class"} and "class" in summarize(saved)


def test_a_picture_is_one_file(added: None, tmp_path: Path) -> None:
    saved = diagnosed(tmp_path / "run", [lost_at("class", box) for box in jittered(2)], resamples=2)
    show_plots(saved, without=["waterfall"])
    plt.close("all")
    names = {path.stem for path in (saved.run.folder / "figures").iterdir()}
    assert "toy" in names and "waterfall" not in names and "stages_by_size" in names
