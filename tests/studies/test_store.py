"""The folder of a study: what is written is read again, one process writes, and a person's words in the note survive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from workbook.errors import RunError
from workbook.files import read_json
from workbook.runs.lease import Lease
from workbook.studies.causes import Cause
from workbook.studies.store import SavedStudy, known_studies, load, require_own_folder, save, study_folder, write_note, writing
from workbook.studies.study import read_study
from workbook.studies.verdicts import Verdict

VERDICT = Verdict("a > b on bbox_mAP", "confounded", 0.1, 0.05, 0.15, 3, 40, ("recipe: seed and finetune",), "confounded, ...: a less b")
CAUSE = Cause("a > b on bbox_mAP", "class", "AP", "all", -0.1, -0.2, -0.01, 3)


def saved(name: str = "mine") -> SavedStudy:
    study = SavedStudy(
        name=name, file="studies/mine.yaml", question="Why?", hypothesis="So.", claims=(VERDICT.claim,), references=("Somebody 2020",),
        options={"seed": "0,1,2"},
        datasets=("litter",), varies={"backbone": ["a", "b"]}, runs=("run-1",), unfinished={"run-2": "killed"}, causes=(CAUSE,),
        why_no_causes=(), verdicts=(VERDICT,),
    )
    with writing(name):
        save(study)
    return study


def test_what_is_written_is_read_again() -> None:
    assert load("mine" if saved() else "") == saved()
    assert known_studies() == ["mine"] and load("mine").causes[0].differs


def test_the_verdicts_have_the_keys_that_others_read() -> None:
    saved()
    verdict, = read_json(study_folder("mine") / "verdicts.json")
    assert set(verdict) >= {"claim", "verdict", "value", "low", "high", "seeds", "images", "confounds"}
    assert (verdict["value"], verdict["confounds"]) == (0.1, ["recipe: seed and finetune"])


def test_an_unknown_study_names_those_there_are() -> None:
    with pytest.raises(RunError, match="no study '' in .*There are: none yet. `workbook study studies/NAME.yaml` makes one"):
        load("")
    saved()
    with pytest.raises(RunError, match="no study 'other' in .*There are: mine"):
        load("other")


@pytest.mark.parametrize(("file", "content", "said"), [
    ("study.json", "{", "is not valid JSON"), ("study.json", "{}", "study.json is not as a study writes it"),
    ("verdicts.json", "[{}]", "verdicts.json holds no verdicts"),
])
def test_a_broken_file_is_named(file: str, content: str, said: str) -> None:
    saved()
    (study_folder("mine") / file).write_text(content)
    with pytest.raises(RunError, match=said):
        load("mine")


def test_one_process_writes_a_study_at_a_time() -> None:
    saved()
    lease = Lease(study_folder("mine") / ".lease.json")
    assert lease.acquire() is None
    with pytest.raises(RunError, match="is being written by process"), writing("mine"):
        pass
    lease.release()
    with writing("mine"):
        pass
    assert not list(study_folder("mine").glob(".lease*"))


def test_what_a_person_wrote_below_the_line_survives(tmp_path: Path) -> None:
    assert write_note(tmp_path, "# First\n\nA result.") is None
    path = tmp_path / "note.md"
    path.write_text(path.read_text() + "Seen on the photos: \u6811 \u2014 all in shade.\n\n## More\n")
    assert write_note(tmp_path, "# Second\n\nAnother result.") is None
    text = path.read_text()
    assert text.startswith("# Second\n\nAnother result.") and "First" not in text
    assert text.endswith("-->\n\n## Notes\n\nSeen on the photos: \u6811 \u2014 all in shade.\n\n## More\n")
    assert text.count("## Notes") == 1


def test_a_note_that_does_not_change_stays_to_the_byte(tmp_path: Path) -> None:
    write_note(tmp_path, "# First")
    before = (tmp_path / "note.md").read_bytes()
    assert write_note(tmp_path, "# First\n") is None and (tmp_path / "note.md").read_bytes() == before


@pytest.mark.parametrize("change", [lambda text: text.replace("A result", "My result"), lambda text: "My own note."])
def test_what_a_person_changed_above_the_line_is_saved_beside_it(change, tmp_path: Path) -> None:
    write_note(tmp_path, "# First\n\nA result.")
    path = tmp_path / "note.md"
    path.write_text(change(path.read_text()))
    old = path.read_text()
    assert write_note(tmp_path, "# Second") == tmp_path / "note.old-1.md"
    assert (tmp_path / "note.old-1.md").read_text() == old and path.read_text().startswith("# Second\n")
    path.write_text("gone")
    assert write_note(tmp_path, "# Third") == tmp_path / "note.old-2.md"


def test_a_cause_is_named_only_where_its_interval_excludes_zero_and_seeds_are_enough() -> None:
    assert CAUSE.differs and not replace(CAUSE, high=0.01).differs and not replace(CAUSE, seeds=2).differs
    assert not replace(CAUSE, low=None, high=None).differs


def test_two_files_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    first, second = tmp_path / "mine.yaml", tmp_path / "other" / "mine.yaml"
    second.parent.mkdir()
    for path in (first, second):
        path.write_text("backbone: resnet18\n")
    study = replace(saved(), file=str(first))
    save(study)
    require_own_folder(read_study(first, {}))
    with pytest.raises(RunError, match="has the same name: rename one of the two files"):
        require_own_folder(read_study(second, {}))
    first.unlink()  # it was moved
    require_own_folder(read_study(second, {}))
