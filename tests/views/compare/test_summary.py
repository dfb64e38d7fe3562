"""What is concluded from run folders: on real detections and val truth, planted so that the better backbone is known."""

import json
import statistics
from pathlib import Path

import pytest

from coco_cases import coco_metrics
from measured_runs import val_truth, write_measured
from run_folders import write_run
from workbook.files import read_json, write_json
from workbook.views.compare.summary import summarize
from workbook.views.compare.tables import select
from workbook.views.compare.winners import settings_of


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path))
    return tmp_path


def repeated(root: Path, shares: dict[str, float], seeds: int, **options) -> list:
    """Runs of each backbone with so many seeds; which objects one finds differs from seed to seed and between the backbones."""
    return [write_measured(root, backbone, share, seed=seed, hour=10 * number + seed, luck=100 * number + seed, **options)
            for number, (backbone, share) in enumerate(shares.items()) for seed in range(seeds)]


def test_a_much_better_backbone_is_named_with_its_corrected_interval(root):
    text = summarize(repeated(root, {"resnet18": 0.4, "swin_t": 0.9}, seeds=3)[::-1])
    assert text.startswith("**Nothing but the backbone and the seed differs between these runs.**")
    sentence = next(line for line in text.splitlines() if line.startswith("- swin_t (Exp 4-6) is better than resnet18 (Exp 1-3) by +0."))
    assert " bbox_mAP (95%: +0." in sentence and sentence.endswith(
        " over 3 seeds and 40 val images, corrected for 3 comparisons).")  # val has no medium objects
    assert " bbox_mAP_s (95%: +0." in text and "bbox_mAP_m" not in text.partition("|")[0]


def test_the_table_of_seeds_has_mean_and_deviation_of_the_measured_figures(root):
    runs = repeated(root, {"resnet18": 0.4, "swin_t": 0.9}, seeds=3)
    text = summarize(runs)
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines() if line.startswith("|")]
    maps = [coco_metrics(val_truth(), read_json(run.folder / "predictions.json"))["bbox_mAP"] for run in runs[3:]]
    assert rows[0] == ["mean ± s.d. of 3 seeds", "bbox_mAP", "bbox_mAP_s"] and len(rows) == 4
    assert rows[2][:2] == ["swin_t (Exp 4-6)", f"{statistics.mean(maps):.3f} ± {statistics.stdev(maps):.3f}"]
    assert rows[3][0] == "resnet18 (Exp 1-3)"


def test_equal_backbones_ahead_with_all_seeds_are_undetermined_and_the_chance_is_named(root):
    shares = {"resnet18": 0.6, "swin_t": 0.64}
    runs = [write_measured(root, backbone, share, seed=seed, hour=10 * number + seed, luck=seed)
            for number, (backbone, share) in enumerate(shares.items()) for seed in range(3)]
    text = summarize(runs)
    assert "- undetermined: swin_t (Exp 4-6) is above resnet18 (Exp 1-3) by +0.0" in text
    assert "ahead with 3 of 3 seeds, which equal backbones also are by chance in 25% of all cases or more." in text
    assert "better than" not in text


def test_two_seeds_name_no_winner_however_large_the_lead(root):
    text = summarize(repeated(root, {"resnet18": 0.3, "swin_t": 0.95}, seeds=2))
    assert "better than" not in text and "in 50% of all cases or more" in text
    assert "2 seeds do not show how far a seed moves a figure: train at least 3 of each" in text


def test_one_seed_each_speaks_of_the_trainings_and_names_no_better_backbone(root):
    text = summarize(repeated(root, {"resnet18": 0.3, "swin_t": 0.95}, seeds=1))
    assert text.startswith("**Nothing but the backbone differs between these runs.** Each is one seed")
    assert "- the training of swin_t (Exp 2) scores above that of resnet18 (Exp 1) by +0." in text
    assert "not about the backbones" in text and "is better than" not in text


def test_one_backbone_with_seeds_has_no_rival(root):
    text = summarize(repeated(root, {"resnet18": 0.5}, seeds=2))
    assert text.startswith("**Nothing but the seed differs") and "| resnet18 (Exp 1-2)" in text and "undetermined" not in text


def test_of_many_comparisons_the_undetermined_ones_are_counted(root):
    text = summarize(repeated(root, {"resnet18": 0.5, "swin_t": 0.5, "resnet50": 0.95}, seeds=3))
    assert text.count("- resnet50 (Exp 7-9) is better than ") == 6 and "corrected for 9 comparisons" in text
    assert "- The other 3 comparisons (bbox_mAP, bbox_mAP_s, bbox_mAP_l) are undetermined." in text


def test_too_few_images_have_no_interval(root):
    text = summarize(repeated(root, {"resnet18": 0.2, "swin_t": 0.95}, seeds=3, truth=val_truth(images=6)))
    assert "- undetermined: bbox_mAP_s of swin_t (Exp 4-6) and resnet18 (Exp 1-3) rests on 18 objects in 6 images, too few" in text
    assert "95%" not in text and "better than" not in text


@pytest.mark.parametrize(("break_it", "reason"), [
    (lambda root, run: (root / "data" / "val.json").unlink(), "data/val.json is missing: "),
    (lambda root, run: (root / "data" / "val.json").write_text("{"), "data/val.json is not valid JSON"),
    (lambda root, run: (run.folder / "predictions.json").unlink(), "predictions.json is missing"),
    (lambda root, run: (run.folder / "config.py").unlink(), "config.py is missing"),
    (lambda root, run: write_json(run.folder / "predictions.json", read_json(run.folder / "predictions.json")[::2]),
     "one of them was changed since"),
    (lambda root, run: write_json(run.folder / "predictions.json", [{"image_id": 999, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]),
     "does not fit"),
])
def test_without_detections_or_truth_no_winner_is_named_and_the_reason_is(root, break_it, reason, monkeypatch):
    monkeypatch.setenv("WORKBOOK_DATA", str(root / "data"))
    runs = repeated(root, {"resnet18": 0.3, "swin_t": 0.95}, seeds=3)
    break_it(root, runs[4])
    text = summarize(runs)
    assert "- No winner can be named: " in text and reason in text and "is better than" not in text


def test_the_val_truth_is_parsed_once_a_page(root, monkeypatch):
    runs = repeated(root, {"resnet18": 0.3, "swin_t": 0.95}, seeds=2)
    parsed, loads = [], json.loads

    def counting(text, **options):
        if isinstance(text, str) and '"annotations"' in text:
            parsed.append(1)
        return loads(text, **options)

    monkeypatch.setattr(json, "loads", counting)
    summarize(runs)
    assert len(parsed) == 1


def test_remarks_say_how_many_small_objects_the_figures_rest_on(root):
    with_small, without = write_run(root), write_run(root, backbone="resnet18", no_small=True, hour=1)
    assert "66 small, 140 medium, 8 large; bbox_mAP_s rests on these 66;" in summarize([with_small])
    assert "0 small" in summarize([without]) and "bbox_mAP_s is blank" in summarize([without])


def test_remarks_warn_of_speeds_of_different_machines(root):
    runs = [write_run(root), write_run(root, backbone="swin_t", hour=1, record={"hardware": {"device": "cuda"}})]
    assert "do not compare images/s" in summarize(runs)
    assert "do not compare images/s" not in summarize(runs[:1])


def test_an_unreadable_run_folder_is_named_in_one_line(root):
    write_run(root)
    broken = write_run(root, backbone="swin_t", hour=1)
    (broken.folder / "run.json").write_text("{")
    text = summarize(select())
    line, = (line for line in text.splitlines() if "Left out because unreadable" in line)
    assert f"1 run folder, {broken.name} (" in line and "is not valid JSON" in line


@pytest.mark.parametrize("change", [{"parameters": {"seed": 7}}, {"parameters": {"seed": 1}, "status": "running"}])
def test_seeds_are_not_compared_unless_all_were_trained_with_the_same(root, change):
    for hour, (backbone, seed) in enumerate((("resnet18", 0), ("resnet18", 1), ("swin_t", 0))):
        write_run(root, backbone=backbone, hour=hour, parameters={"seed": seed})
    write_run(root, backbone="swin_t", hour=9, **change)
    runs = select()
    assert settings_of(runs) == [] and "The seed differs" in summarize(runs)


def test_with_other_differences_the_seeds_are_still_in_the_table_but_no_winner(root):
    runs = [write_run(root, backbone="resnet18", hour=10 * batch + seed, parameters={"seed": seed, "batch_size": batch})
            for batch in (2, 4) for seed in (0, 1)]
    text = summarize(runs)
    assert "no backbone is named the better one" in text and "The batch size differs: 2 (Exp 1-2), 4 (Exp 3-4)." in text
    assert "The seed differs" not in text and "of 2 seeds" in text and "is above" not in text
