"""Browsing with a real mongod: what is in the database equals the run folders, and what the user added stays."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import importlib_metadata  # noqa: F401  as MLflow loads it: FiftyOne has to open in the same process
import pandas as pd
import psutil
import pytest
from pymongo import MongoClient
from requests.utils import should_bypass_proxies

import planted
from diagnosed import answers, at, diagnosed
from planted import Answer, Scene, scripted_rcnn
from run_folders import write_run as write_run_folder
from workbook import cli
from workbook.browse import database as fiftyone_database
from workbook.browse.app import free_port, launch
from workbook.browse.database import BrowseError, connect, mongod_program
from workbook.browse.samples import Browsed, open_runs, read_runs
from workbook.browse.views import build, difference_name, table
from workbook.diagnosis.families.two_stage import TWO_STAGE
from workbook.errors import RunError
from workbook.files import write_json
from workbook.runs.folder import Run

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("<script>alert(1)</script>", """it's a "bar" {$where}""", "owl")
LOSING = ("proposals", "class", "box", "suppression", "background")
NAMES = ("faster_rcnn-resnet50-aaaaaaaa", "faster_rcnn-swin_t-bbbbbbbb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """An outputs folder with two diagnosed runs; one for the module, because a process has one database."""
    root = tmp_path_factory.mktemp("browse")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted, "CLASSES", CLASSES)
        for number, name in enumerate(NAMES):
            write_run(root, name, number)
        patch.delenv(fiftyone_database.URI, raising=False)
        patch.setenv(fiftyone_database.URI, "")  # so that what `connect` sets is taken back in the end
        yield root / "outputs"


def write_run(root: Path, name: str, number: int) -> None:
    """Each object is found, or lost by the next stage in turn; a run finds what the other one misses, now and then."""
    boxes = [at(20, 60, 24, 24), at(90, 60, 24, 24), at(150, 120, 50, 50)]
    scenes = []
    for image in range(6):
        told = [Answer(at(220, 220, 20, 20), {CLASSES[0]: 0.5 if image else 0.95})]  # a false one, sure in the first image
        for place, box in enumerate(boxes):
            turn = 3 * image + place + number
            stage = "detected" if turn % 3 == 0 else LOSING[turn % 5]
            told += answers(stage, box, CLASSES[place % 2])
        scenes.append(Scene([(box, CLASSES[place % 2]) for place, box in enumerate(boxes)], told))
    diagnosed(root, scenes, scripted_rcnn(scenes, score_thr=0.4), resamples=2, name=name, runs=root / "outputs" / "runs",
              record={"started": f"2026-01-0{number + 1}"})


@pytest.fixture(autouse=True)
def outputs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(folder))
    return folder


def trace_of(name: str, folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "runs" / name / "trace.parquet")


def browsed(*names: str):
    return build(read_runs(open_runs(names)))


def shown(dataset) -> dict[str, int]:
    return dict(table(dataset)[["saved view", "shows"]].itertuples(index=False))


def test_images_that_were_moved_are_shown_from_where_they_are(folder: Path) -> None:
    before = browsed(NAMES[0])
    data = folder.parent / "data"
    moved = folder.parent / "moved"
    shutil.copytree(data, moved)
    path = folder / "runs" / NAMES[0] / "config.py"
    config = path.read_text()
    try:
        path.write_text(config.replace(str(data), str(moved)))
        dataset = browsed(NAMES[0])
        shown_files = [Path(file) for file in dataset.values("filepath")]
        assert dataset.name == before.name and len(shown_files) == 6
        assert all(file.is_relative_to(moved) and file.is_file() for file in shown_files)
    finally:
        path.write_text(config)


def test_boxes_attributes_and_views_equal_the_trace(folder: Path) -> None:
    dataset, trace = browsed(NAMES[0]), trace_of(NAMES[0], folder)
    assert dataset.persistent and dataset.name == f"scenes-{NAMES[0]}" and len(dataset) == 6
    assert all(Path(path).is_file() for path in dataset.values("filepath"))
    truth = {box.annotation_id: box for sample in dataset for box in sample.ground_truth.detections}
    assert {id_: (box.stage, box.detected, box.size) for id_, box in truth.items()} == {
        row.annotation_id: (row.stage, row.detected, row.size) for row in trace.itertuples()}
    assert {id_: box.candidate_iou for id_, box in truth.items()} == dict(zip(trace.annotation_id, trace.candidate_iou, strict=True))
    small = trace[trace["size"] == "small"]
    views = shown(dataset)
    for stage in TWO_STAGE.parts:
        assert views[f"small: lost at {stage.name}"] == (small["stage"] == stage.name).sum()
    assert sum(views[f"small: lost at {name}"] > 0 for name in LOSING[:4]) == 4
    assert views["small: all missed"] == (~small["detected"]).sum()
    found = pd.read_parquet(folder / "runs" / NAMES[0] / "detections.parquet")
    false = found[(found["outcome"] == "false") & (found["area"] <= 32**2)]
    assert views["small: false positives"] == len(false) > 6 and views["label suspects: not labelled"] == 1
    assert {box.label for box in truth.values()} == set(CLASSES[:2]), "a label is the class's name as it is: data, no markup"
    pred = [box for sample in dataset for box in sample[NAMES[0].replace("-", "_")].detections]
    assert [box.match for box in pred].count("true") == trace["detected"].sum()
    assert sorted(box.match for box in pred) == sorted(found["kind"].where(found["outcome"] == "false", found["outcome"]))
    assert {(box.annotation_id, round(box.match_iou, 6)) for box in pred if box.match == "true"} == {
        (row.annotation_id, round(row.iou, 6)) for row in found.itertuples() if row.outcome == "true"}


def test_a_view_shows_patches_the_worst_first_and_in_the_colors_of_the_stages(folder: Path) -> None:
    dataset, trace = browsed(NAMES[0]), trace_of(NAMES[0], folder)
    view = dataset.load_saved_view("small: lost at proposals")
    lost = trace[(trace["size"] == "small") & (trace["stage"] == "proposals")]
    assert view._is_patches and view.values("ground_truth.annotation_id") == lost.sort_values("candidate_iou").annotation_id.tolist()
    about = dataset.get_saved_view_info("small: lost at proposals")
    assert TWO_STAGE.parts[0].question in about["description"] and about["color"].upper() == TWO_STAGE.parts[0].color
    by_stage = dataset.app_config.color_scheme.fields[0]
    assert by_stage["path"] == "ground_truth" and by_stage["colorByAttribute"] == "stage"
    colors = {value["value"]: value["color"] for value in by_stage["valueColors"]}
    assert {stage.name: stage.color for stage in TWO_STAGE.parts}.items() <= colors.items()


def test_two_runs_side_by_side(folder: Path) -> None:
    dataset = browsed(*reversed(NAMES))  # A is the older one, in whatever order they are named
    a, b = (trace_of(name, folder).set_index("annotation_id")["detected"] for name in NAMES)
    views = shown(dataset)
    assert dataset.name == "scenes-aaaaaaaa-bbbbbbbb"
    assert views["missed by A, found by B"] == (~a & b).sum() > 0 and views["missed by B, found by A"] == (a & ~b).sum() > 0
    stages = {box.annotation_id: box.stage_faster_rcnn_swin_t_bbbbbbbb for sample in dataset for box in sample.ground_truth.detections}
    traces = [trace_of(name, folder).set_index("annotation_id") for name in NAMES]
    assert stages == traces[1]["stage"].to_dict()
    losing = traces[0]["stage"].where(~traces[0]["detected"] | traces[1]["detected"], traces[1]["stage"])
    assert {box.annotation_id: box.stage for sample in dataset for box in sample.ground_truth.detections} == losing.to_dict()
    assert dataset.app_config.color_scheme.fields[0]["colorByAttribute"] == "stage"


def test_a_second_time_keeps_what_the_user_made() -> None:
    dataset = browsed(NAMES[0])
    before = shown(dataset)
    dataset.load_saved_view("small: all missed").limit(2).tag_labels("look again")
    dataset.limit(1).tag_samples("mine")
    dataset.save_view("my view", dataset.match_tags("mine"))
    dataset.save()
    again = browsed(NAMES[0])
    assert again.count_label_tags() == {"look again": 2} and again.count_sample_tags() == {"mine": 1}
    assert shown(again) == {**before, "my view": 1}
    assert len(again) == 6


def test_the_command_serves_the_app_and_shares_its_database_with_another_process(folder: Path) -> None:
    # an outputs folder without a mongod yet, so that both want to start one
    fresh = folder.parent / "fresh"
    fresh.mkdir()
    (fresh / "runs").symlink_to(folder / "runs")
    proxy = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")  # nobody answers there
    env = {**os.environ, **proxy, "NO_PROXY": "example.org", "WORKBOOK_OUTPUTS": str(fresh), "PYTHONPATH": str(ROOT / "lib")}
    del env[fiftyone_database.URI]
    code = ("from workbook.browse.samples import open_runs, read_runs\nfrom workbook.browse.views import build, table\n"
            "from workbook.browse.database import connect\n"
            f"d = build(read_runs(open_runs({NAMES[1]!r})))\nprint(connect().config.database_uri, len(d), len(table(d)))")
    with socket.socket() as busy:
        wanted = random.randrange(20_000, 30_000)  # below the ports that the system gives to connections, which come and go
        busy.bind(("127.0.0.1", wanted))
        busy.listen()
        browse = [sys.executable, "-m", "workbook.cli", "browse", NAMES[0], "--port", str(wanted)]
        serving, other = (subprocess.Popen(command, env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE)
                          for command in (browse, [sys.executable, "-c", code]))
        said = ""
        for line in serving.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        assert f"Port {wanted} is taken" in said and "ssh -L" in said and "small: lost at proposals" in said
        url = next(word for word in said.split() if word.startswith("http://127.0.0.1:"))
        assert b"FiftyOne" in urllib.request.urlopen(url, timeout=60).read()
        family = [serving.pid, *(child.pid for child in psutil.Process(serving.pid).children(recursive=True))]
        heard = [c.laddr.ip for c in psutil.net_connections("inet") if c.pid in family and c.status == psutil.CONN_LISTEN]
        assert heard and set(heard) <= {"127.0.0.1", "::1"}, "it listens to other machines"
        assert talks_to(serving.pid, int(url.rpartition(":")[2])), "the session asks the proxy for its App: the page has no dataset"
        out, _ = other.communicate(timeout=300)
        port = json.loads((fresh / "fiftyone" / "mongod.json").read_text())["port"]
        assert out.strip().splitlines()[-1] == f"mongodb://127.0.0.1:{port} 6 10" and other.returncode == 0
        datasets = MongoClient("127.0.0.1", port)["fiftyone"]["datasets"].distinct("name")
        assert {f"scenes-{name}" for name in NAMES} <= set(datasets), "both are in the one database"
        serving.send_signal(signal.SIGINT)
        assert serving.wait(timeout=60) == 0
    deadline = time.monotonic() + 60  # nobody is left, so mongod ends
    while (fresh / "fiftyone" / "mongod.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not (fresh / "fiftyone" / "mongod.json").exists()


def talks_to(pid: int, port: int) -> bool:
    """Whether the process gets a connection to that port of this machine within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        open_ones = [c for c in psutil.Process(pid).net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
        if port in [c.raddr.port for c in open_ones if c.raddr]:
            return True
        time.sleep(0.1)
    return False


LISTED = ({}, {"no_proxy": "example.org"}, {"NO_PROXY": "a.org, 127.0.0.1"}, {"no_proxy": "", "NO_PROXY": "b.org"})


@pytest.mark.parametrize("before", LISTED)
def test_this_machine_is_asked_without_a_proxy_and_others_as_before(
    before: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """requests, which FiftyOne uses, says what goes to a proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    outside = [f"http://{host}/" for host in ("example.org", "a.org", "b.org", "c.org")]
    direct = [should_bypass_proxies(url, None) for url in outside]
    fiftyone_database._without_proxy()
    assert all(should_bypass_proxies(f"http://{host}:5151/events", None) for host in ("127.0.0.1", "localhost"))
    assert [should_bypass_proxies(url, None) for url in outside] == direct


def test_two_outputs_folders_in_one_database_have_each_their_own_dataset(folder: Path, tmp_path: Path) -> None:
    """Two people with the same data and parameters have the same run names; their photos lie in different folders."""
    connect()
    code = ("import json, os, sys\nfrom workbook.browse.samples import open_runs, read_runs\nfrom workbook.browse.views import build\n"
            f"def made(outputs):\n os.environ['WORKBOOK_OUTPUTS'] = outputs\n d = build(read_runs(open_runs({NAMES[0]!r})))\n"
            " return d.name, d.values('filepath')\n"
            "print(json.dumps([made(outputs) for outputs in sys.argv[1:]]))")
    folders = []
    for who in ("first", "second"):
        shutil.copytree(folder.parent, tmp_path / who, ignore=shutil.ignore_patterns("fiftyone", "fresh"))
        for config in (tmp_path / who).glob("outputs/runs/*/config.py"):
            config.write_text(config.read_text().replace(str(folder.parent), str(tmp_path / who)))
        folders.append(str(tmp_path / who / "outputs"))
    env = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "WORKBOOK_OUTPUTS": folders[0]}
    done = subprocess.run([sys.executable, "-c", code, *folders, folders[0]], env=env, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second, again = json.loads(done.stdout.splitlines()[-1])
    assert first == again and first[0] != second[0]
    for who, (name, paths) in (("first", first), ("second", second)):
        assert name.startswith(f"scenes-{NAMES[0]}-") and all(Path(path).is_relative_to(tmp_path / who) for path in paths)


def test_paths_are_written_anew_when_the_photos_have_moved() -> None:
    dataset = browsed(NAMES[0])
    right = dataset.values("filepath")
    dataset.limit(1).tag_samples("stays")
    dataset.set_values("filepath", [f"/gone/{number}.png" for number in range(len(right))])
    again = browsed(NAMES[0])
    assert again.values("filepath") == right and again.count_sample_tags()["stays"] == 1


def test_an_app_that_does_not_start_is_waited_for_and_then_said(monkeypatch: pytest.MonkeyPatch) -> None:
    connect()
    from fiftyone.core.service import ServerService, Service, ServiceListenTimeout

    waited: list[float] = []

    def never(self, port=None, timeout=60):
        waited.append(timeout)
        raise ServiceListenTimeout("server", port)

    monkeypatch.setattr(Service, "_wait_for_child_port", never)
    monkeypatch.setattr(ServerService, "command", [sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(BrowseError, match="within 5 minutes.*too busy.*contact sheets"):
        launch(None, 5151)
    assert waited == [300]


def test_a_run_that_cannot_be_browsed_says_what_to_do(tmp_path: Path, folder: Path) -> None:
    """One without a diagnosis, and one whose boxes were corrected since, under the same annotation ids."""
    for name in NAMES:
        shutil.copytree(folder / "runs" / name, tmp_path / name)
    (tmp_path / NAMES[0] / "waterfall.json").unlink()
    truth = tmp_path / "truth.json"
    content = json.loads((folder.parent / "data" / "truth.json").read_text())
    content["annotations"][0]["bbox"][0] += 1
    write_json(truth, content)
    config = tmp_path / NAMES[1] / "config.py"
    config.write_text(config.read_text().replace(str(folder.parent / "data" / "truth.json"), str(truth)))
    with pytest.raises(RunError) as error:
        read_runs([Run(tmp_path / name) for name in NAMES])
    assert f"{NAMES[0]} has no diagnosis: `workbook diagnose {NAMES[0]}` first" in str(error.value)
    assert f"the diagnosis of {NAMES[1]} is out of date (changed since: val, train)" in str(error.value)


def test_runs_on_different_data_are_refused(tmp_path: Path, folder: Path) -> None:
    other = tmp_path / "faster_rcnn-resnet18-cccccccc"
    shutil.copytree(folder / "runs" / NAMES[1], other)
    Run(other).update(data={"name": "others", "hash": "f" * 64})
    with pytest.raises(RunError, match=r"(?s)different data.*scenes.*others \(ffffffff\)"):
        read_runs([Run(folder / "runs" / NAMES[0]), Run(other)])


def test_without_mongod_it_says_what_serves_instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fiftyone_database.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrowseError, match=r"(?s)needs mongod.*make setup.*FIFTYONE_DATABASE_URI.*contact sheets.*3_diagnose.html"):
        mongod_program()


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    nowhere = "mongodb://127.0.0.1:9"
    monkeypatch.setenv(fiftyone_database.URI, nowhere)
    monkeypatch.delitem(sys.modules, "fiftyone", raising=False)  # as in a new process
    monkeypatch.setattr(sys, "argv", ["workbook", "browse", NAMES[0]])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and f"no MongoDB answers at {nowhere}" in said and "contact sheets" in said


def test_another_database_in_the_same_python_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connect()
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path))
    with pytest.raises(BrowseError, match="restart this Python"):
        connect()


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(BrowseError, match="from 1 to 65535"):
        free_port(70_000)


@pytest.mark.parametrize(("before", "after", "expected"), [
    ("", "fitted_anchors", ["missed before, found now (A to B)", "found before, missed now (A to B)"]),
    ("soft_nms", "fitted_anchors,soft_nms", ["missed before, found now (A to B)", "found before, missed now (A to B)"]),
    ("fitted_anchors", "", ["found before, missed now (B to A)", "missed before, found now (B to A)"]),
    ("fitted_anchors", "soft_nms", ["missed by A, found by B", "missed by B, found by A"]),
])
def test_a_pair_that_differs_in_remedies_alone_is_named_before_and_now(before, after, expected, tmp_path) -> None:
    runs = [
        Browsed(SimpleNamespace(run=write_run_folder(tmp_path / name, parameters={"remedies": remedies})), name)
        for name, remedies in (("one", before), ("two", after))
    ]
    assert [difference_name(runs[0], "A", runs[1], "B"), difference_name(runs[1], "B", runs[0], "A")] == expected
    other = Browsed(SimpleNamespace(run=write_run_folder(tmp_path / "three", backbone="swin_t", parameters={"remedies": after})), "three")
    assert difference_name(runs[0], "A", other, "B") == "missed by A, found by B"
