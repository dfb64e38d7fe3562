"""Studies from files: what a claim may say, which short forms are understood, and every mistake of a file at once with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbook.studies.claim import parse_claim
from workbook.studies.study import Study, StudyError, read_grids, read_study
from workbook.training.parameters import Parameters

ROOT = Path(__file__).resolve().parents[2]
LITES = [Parameters(backbone=f"tf_efficientnet_lite{n}", recipe="finetune", epochs=epochs) for n in (0, 1, 2) for epochs in (1, 12)]
PVTS = [Parameters(backbone=f"pvtv2_b{n}", recipe="seed", image_size=size) for n in (0, 5) for size in (320, 640)]
WHOLE = """question: Which one?
hypothesis: >-
  The larger one.
claims:
  - lite2 > lite0 on bbox_mAP_s
  - epochs=12 = epochs=1 within .01 on bbox_mAP
grid:
  backbone: [tf_efficientnet_lite0, tf_efficientnet_lite2]
  epochs: [1, 12]
references: [Somebody 2020]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


LITE0, LITE1, LITE2 = (("backbone", f"tf_efficientnet_lite{n}") for n in (0, 1, 2))


@pytest.mark.parametrize(("text", "left", "right", "figure", "size", "margin"), [
    ("lite2 > lite0 on bbox_mAP_s", LITE2, LITE0, "bbox_mAP_s", "small", None),
    ("lite2 = lite0 within .01 on bbox_mAP", LITE2, LITE0, "bbox_mAP", "all", 0.01),
    ("epochs=12 > epochs=1 on bbox_mAP_l", ("epochs", 12), ("epochs", 1), "bbox_mAP_l", "large", None),
    ("epoch=12 = epoch=1 within 0.2 on bbox_mAP_50", ("epochs", 12), ("epochs", 1), "bbox_mAP_50", "all", 0.2),
    (" backbone=lite1  >  tf_efficientnet_lite0  on  bbox_mAP_m ", LITE1, LITE0, "bbox_mAP_m", "medium", None),
])
def test_a_claim_is_understood(text, left, right, figure, size, margin) -> None:
    claim = parse_claim(text, LITES)
    assert ((claim.left.parameter, claim.left.value), (claim.right.parameter, claim.right.value)) == (left, right)
    assert (claim.figure, claim.size, claim.margin, claim.text) == (figure, size, margin, text.strip())


def test_values_are_those_of_a_run_however_they_are_written() -> None:
    sides = parse_claim("image_s=640 > image_size=320x320 on bbox_mAP_s", PVTS)
    assert (sides.left.parameter, sides.left.value, sides.right.value) == ("image_size", (640, 640), (320, 320))
    assert parse_claim("b5 > b0 on bbox_mAP", PVTS).left.value == "pvtv2_b5"


@pytest.mark.parametrize(("text", "parts"), [
    ("lite2 is better", ["is no claim", "'LEFT > RIGHT on FIGURE'"]),
    ("lite2>lite0 on bbox_mAP", ["is no claim"]),
    ("size=1 > size=2 on bbox_mAP", ["'size' may be image_size or batch_size"]),
    ("lite > lite0 on bbox_mAP", ["'lite' may be tf_efficientnet_lite0 or tf_efficientnet_lite1 or tf_efficientnet_lite2"]),
    ("swin_t > lite0 on mAP", [
        "no run of this study has backbone 'swin_t'. Its values: tf_efficientnet_lite0, ", "unknown figure 'mAP'. Known: bbox_mAP,"]),
    ("lite2 < lite0 on bbox_mAP", ["write the larger one first, with >"]),
    ("lite2 = lite0 on bbox_mAP", ["only within a margin between 0 and 1"]),
    ("lite2 = lite0 within 2 on bbox_mAP", ["only within a margin between 0 and 1"]),
    ("lite2 > lite0 within .1 on bbox_mAP", ["'within' belongs to ="]),
    ("lite2 > epochs=1 on bbox_mAP", ["differ in two things, backbone and epochs"]),
    ("lite2 > lite2 on bbox_mAP", ["both sides are tf_efficientnet_lite2"]),
    ("colour=1 > colour=2 on bbox_mAP", ["no parameter 'colour'", "parameter=value with one of: dataset, detector"]),
    ("epochs=13 > epochs=1 on bbox_mAP", ["no run of this study has epochs '13'. Its values: 1, 12"]),
    ("device=cpu > device=cuda on bbox_mAP", ["device cannot be claimed: runs that differ in it alone are the same run"]),
])
def test_a_claim_that_means_nothing_is_refused_with_all_that_is_wrong(text, parts) -> None:
    with pytest.raises(ValueError) as caught:
        parse_claim(text, LITES)
    assert text in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_wrong_key_of_the_grid_hides_no_mistake_of_a_claim(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "claims: ['lite9 > lite0 on mAP']\ngrid: {dataset: a, backbone: [tf_efficientnet_lite0, tf_efficientnet_lite2], sed: 1}\n")
    with pytest.raises(StudyError) as caught:
        read_study(tmp_path / "mine.yaml", {})
    for words in ("line 1: 'lite9 > lite0 on mAP': no run of this study has backbone 'lite9'", "unknown figure 'mAP'",
                  "line 2: sed: no such parameter"):
        assert words in str(caught.value), words


def test_seeds_and_data_sets_cannot_be_claimed() -> None:
    runs = [Parameters(seed=seed, dataset=name) for seed in (0, 1) for name in ("a", "b")]
    with pytest.raises(ValueError, match="seed cannot be claimed: seeds are the chance"):
        parse_claim("seed=1 > seed=0 on bbox_mAP", runs)
    with pytest.raises(ValueError, match="dataset cannot be claimed: runs on other images cannot be paired"):
        parse_claim("dataset=a > dataset=b on bbox_mAP", runs)


def test_a_whole_study_is_read(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, WHOLE), {"seed": [0, 1, 2]})
    assert (study.name, study.question, study.hypothesis, study.references) == ("mine", "Which one?", "The larger one.", ("Somebody 2020",))
    assert [claim.text for claim in study.claims] == ["lite2 > lite0 on bbox_mAP_s", "epochs=12 = epochs=1 within .01 on bbox_mAP"]
    assert study.grids == ({"backbone": ["tf_efficientnet_lite0", "tf_efficientnet_lite2"], "epochs": [1, 12], "seed": [0, 1, 2]},)


def test_options_replace_keys_before_the_claims_are_understood(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="line 5: 'lite2 > .*: no run of this study has backbone 'lite2'. Its values: resnet18"):
        read_study(written(tmp_path, WHOLE), {"backbone": ["resnet18"]})


def test_a_file_of_grids_alone_is_a_study_without_claims(tmp_path: Path) -> None:
    for text in ("backbone: resnet18\nseed: [0, 1]\n", "- backbone: resnet18\n  seed: [0, 1]\n"):
        path = written(tmp_path, text)
        assert read_grids(path) == [{"backbone": "resnet18", "seed": [0, 1]}]
        assert read_study(path, {}) == Study("mine", str(path.resolve()), "", "", (), ({"backbone": "resnet18", "seed": [0, 1]},), ())


def test_every_mistake_of_a_file_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    text = """question: 7
claims:
  - lite2 > lite0 on bbox_mAP_x
  - lite9 is best
  - {a: 1}
hypotheses: none
grid:
  - backbone: [tf_efficientnet_lite0, tf_efficientnet_lite2]
    epochs: {from: 1}
    batch_size: 0
  - backbone: resnet5
    seed: []
references: {a: b}
"""
    with pytest.raises(StudyError) as caught:
        read_study(written(tmp_path, text), {})
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("mine.yaml cannot be used:")
    expected = [(1, "question is no text: 7"), (4, "'lite9 is best' is no claim"), (5, "claims 3 is no text: {'a': 1}"),
                (6, "no such key 'hypotheses'. Allowed: question,"),
                (9, "epochs: {'from': 1} is neither a value"), (10, "batch_size = 0"), (11, "backbone = 'resnet5'"),
                (12, "seed: the list is empty"), (13, "references is no list")]
    for (line, words), said in zip(expected, lines[1:], strict=True):
        assert said.startswith(f"  - line {line}: {words}"), said


def test_wrong_claims_are_named_together(tmp_path: Path) -> None:
    text = WHOLE.replace("lite2 > lite0 on bbox_mAP_s", "lite2 > lite0 on bbox_mAP_x").replace("epochs=12 =", "epochs=13 =")
    with pytest.raises(StudyError) as caught:
        read_study(written(tmp_path, text), {})
    assert "line 5: 'lite2 > lite0 on bbox_mAP_x': unknown figure" in str(caught.value)
    assert "line 6: 'epochs=13 = epochs=1 within .01 on bbox_mAP': no run of this study has epochs '13'" in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [
    ("backbone: [resnet50", "is no YAML"), ("- backbone: {a: 1}", "line 1: backbone: {'a': 1} is neither a value"),
    ("just words", "line 1: mine.yaml has no grid of runs"), ("- seed: 0\n- seed: [0, null]", "line 2: seed: [0, None] is neither"),
    ("", "has no grid of runs"), ("question: why", "line 1: no grid: a study says which runs it needs"),
    ("question: why\nbackbone: swin_t\ngrid: {seed: 0}", "line 2: no such key 'backbone'.*runs belong under grid .line 3."),
    ("grid:\n  seed: 0\n  seed: 1", "line 3: 'seed' is there twice"), ("grid:\n- 7", "line 2: grid 1 maps nothing"),
])
def test_a_broken_file_is_refused_with_the_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said.replace("[", r"\[")):
        read_grids(written(tmp_path, text))


def test_a_file_that_is_not_there_names_those_that_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(StudyError, match="No such file.*studies/demo.yaml, studies/original.yaml"):
        read_study(tmp_path / "none.yaml", {})


def test_a_claim_made_twice_is_refused(tmp_path: Path) -> None:
    text = WHOLE.replace("epochs=12 = epochs=1 within .01 on bbox_mAP", "tf_efficientnet_lite2 > lite0 on bbox_mAP_s")
    with pytest.raises(StudyError, match="line 6: 'tf_efficientnet_lite2 > lite0 on bbox_mAP_s' is claimed twice"):
        read_study(written(tmp_path, text), {})


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.name)
def test_the_studies_that_come_with_the_workbook_are_sound(path: Path) -> None:
    assert read_study(path, {}).grids == tuple(read_grids(path))


def test_the_first_experiments_claim_what_their_table_had() -> None:
    claims = [claim.text for claim in read_study(ROOT / "studies/original.yaml", {}).claims]
    assert "pvtv2_b5 > pvtv2_b0 on bbox_mAP_s" in claims and len(claims) == 4


def test_a_name_that_is_no_folder_and_an_alias_of_itself_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "...yaml"
    path.write_text("backbone: resnet18\n")
    with pytest.raises(StudyError, match="begins with no point. Rename the file"):
        read_study(path, {})
    with pytest.raises(StudyError, match="line 2: .*neither a value"):
        read_study(written(tmp_path, "grid: &a\n  backbone: *a\n"), {})


@pytest.mark.parametrize("claims", ["0", "false"])
def test_claims_that_are_no_list_are_not_taken_for_none(tmp_path: Path, claims: str) -> None:
    with pytest.raises(StudyError, match="line 1: claims is no list"):
        read_study(written(tmp_path, f"claims: {claims}\ngrid: {{backbone: resnet18}}\n"), {})
    assert read_study(written(tmp_path, "claims:\nquestion:\ngrid: {backbone: resnet18}\n"), {}).question == ""


def test_none_is_a_run_without_remedies(tmp_path: Path) -> None:
    text = "claims: [remedies=soft_nms > remedies=none on bbox_mAP]\ngrid: {backbone: resnet18, remedies: [none, soft_nms]}\n"
    claim, = read_study(written(tmp_path, text), {}).claims
    assert (claim.left.value, claim.right.value) == ("soft_nms", "")
