"""The figures of a run are counted again from its files, and must be those that it was measured with."""

from __future__ import annotations

from pathlib import Path

import pytest

from measured_runs import val_truth, write_measured
from workbook.errors import RunError
from workbook.files import write_json
from workbook.runs.samples import samples_of


def test_the_files_that_a_run_was_measured_on_give_its_figures(tmp_path: Path) -> None:
    run = write_measured(tmp_path, "resnet18", 0.5)
    assert samples_of(run, {}).figures["bbox_mAP"].values[0] == pytest.approx(run.metrics()["bbox_mAP"], abs=1e-12)


def test_val_images_without_objects_have_no_ap_and_that_agrees(tmp_path: Path) -> None:
    run = write_measured(tmp_path, "resnet18", 0.5, truth={**val_truth(), "annotations": []})
    assert run.metrics()["bbox_mAP"] is None
    assert samples_of(run, {}).figures["bbox_mAP"].interval().value is None


@pytest.mark.parametrize(("measured", "said"), [(0.9, "bbox_mAP 0.9000, but .* give 0.4752"), (None, "bbox_mAP none, but .* give 0.4752")])
def test_a_run_that_was_measured_on_other_files_is_named(tmp_path: Path, measured: float | None, said: str) -> None:
    run = write_measured(tmp_path, "resnet18", 0.5)
    write_json(run.folder / "metrics.json", {**run.metrics(), "bbox_mAP": measured})
    with pytest.raises(RunError, match=said):
        samples_of(run, {})
