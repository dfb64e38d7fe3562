"""The page of everything: every run, study and proven remedy is on it, names are text, and it needs no network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from run_folders import cut, write_run
from workbook.files import write_json
from workbook.studies.store import study_folder
from workbook.views.report import write_report

EVIL = """<img src=x onerror=alert(1)> "o'clock" & more"""


class Page(HTMLParser):
    """The tags of a page, its links and the words of every cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self.is_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "td":
            self.is_cell = True
            self.cells.append("")
        self.links += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self.is_cell = False

    def handle_data(self, data: str) -> None:
        if self.is_cell:
            self.cells[-1] += data


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path))
    return tmp_path


def proof(**changed):
    sizes = {"small": {"before": 0.1, "after": 0.2, "difference": 0.1, "low": 0.02, "high": 0.18, "promised": 0.15}}
    return {"run": "run-1", "size": "small", "winner": "finer_level", "seeds": [3, 4, 5], "control": "longer", "sizes": sizes, **changed}


def study(name: str, **changed) -> None:
    verdict = {"claim": "a > b on bbox_mAP", "verdict": "supported", "value": 0.05, "low": 0.01, "high": 0.09, "seeds": 3, "images": 40,
               "confounds": [], "words": "supported: a less b is +0.050", **changed}
    folder = study_folder(name)
    folder.mkdir(parents=True)
    write_json(folder / "verdicts.json", [verdict])
    (folder / "note.md").write_text("x")


def test_an_empty_folder_makes_a_page_that_says_so(root) -> None:
    text = write_report().read_text()
    assert "No runs yet." in text and "No study has verdicts yet." in text and "None yet." in text


def test_every_run_study_and_remedy_is_on_it_with_links_that_lead_somewhere(root) -> None:
    run = write_run(root, backbone="resnet18", maps=(0.1, 0.25))
    (run.folder / "2_train.html").write_text("page")
    other = write_run(root, backbone="swin_t", maps=(0.1,), status="failed", hour=1)
    study("size matters")
    (root / "remedies" / "one").mkdir(parents=True)
    write_json(root / "remedies" / "one" / "proof.json", proof())
    page = Page(write_report().read_text())
    shown = {"resnet18", "swin_t", "done", "failed", "0.250", "a > b on bbox_mAP", "supported", "0.050", "finer_level"}
    assert shown <= set(page.cells)
    assert any(cell.startswith(f"{run.name}: 2_train") for cell in page.cells) and other.name in page.cells
    assert len(page.links) == 2 and all((root / unquote(link)).is_file() for link in page.links)


def test_it_needs_no_network(root) -> None:
    write_run(root)
    text = write_report().read_text()
    assert not re.search(r"https?://|//cdn|@import|url\(", text)


def test_names_are_text_whatever_they_contain(root) -> None:
    write_run(root, data={"name": EVIL})
    study("evil", claim=EVIL, verdict="open", words=f"open: {EVIL}")
    (root / "remedies" / "x").mkdir(parents=True)
    write_json(root / "remedies" / "x" / "proof.json", proof(run=EVIL, winner="</script><script>alert(1)</script>"))
    page = Page(write_report().read_text())
    assert page.tags.count("script") == 1 and "img" not in page.tags
    assert page.cells.count(EVIL) == 4  # the run's data set, the claim, its words, the remedy's run


def test_what_is_broken_is_named_and_the_rest_is_there(root) -> None:
    write_run(root)
    cut(write_run(root, backbone="swin_t", hour=1))
    without = write_run(root, backbone="resnet18", hour=2)
    (without.folder / "metrics.json").unlink()
    study("good")
    study("bad")
    (study_folder("bad") / "verdicts.json").write_text("{")
    for name, content in (("a", "{"), ("b", "{}"), ("c", json.dumps(proof()))):
        (root / "remedies" / name).mkdir(parents=True)
        (root / "remedies" / name / "proof.json").write_text(content)
    (root / "reported" / "tree_crowns").mkdir(parents=True)
    (root / "reported" / "tree_crowns" / "t.md.json").write_text("{broken")
    study("silent")
    write_json(study_folder("silent") / "verdicts.json", [])
    text = write_report().read_text()
    page = Page(text)
    assert "silent" in page.cells and "none: this study claims nothing" in page.cells
    assert "resnet50" in page.cells and "good" in page.cells and "finer_level" in page.cells
    for words in ("Left out because unreadable: 2 run folders", f"{without.name} (", "bad/verdicts.json is not valid JSON",
                  "a/proof.json is not valid JSON", "b/proof.json is no proof of a remedy",
                  "t.md.json is not as `workbook adopt` writes it (RunError): adopt the table again, or delete the file"):
        assert words in text, words


def test_a_run_that_nobody_trains_is_broken_off(root) -> None:
    write_run(root, status="running")
    assert "broken off" in Page(write_report().read_text()).cells


def test_reported_rows_stand_beside_the_runs(root) -> None:
    write_run(root)
    folder = root / "reported" / "tree_crowns"
    folder.mkdir(parents=True)
    row = {"Exp num": "1-1", "Backbone": "R50", "val/bbox_mAP": 0.231}
    write_json(folder / "t.md.json", {"dataset": "tree_crowns", "table": "t.md", "rows": [row]})
    cells = Page(write_report().read_text()).cells
    assert {"reported", "1-1", "R50", "0.231", "t.md (reported)"} <= set(cells)
