"""What comes from others is read and never run, shown as text, and kept in its folder; keys and the network stay outside."""

from __future__ import annotations

import ast
import contextlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pytest
from IPython.core.displayhook import CapturingDisplayHook
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from mmcv import Config

from bad_inputs import Harmful
from small_dataset import load, save, write_dataset
from trained_run import ASKED, CLASSES, DATASET, KEY, Trained
from workbook.browse.app import ADDRESS
from workbook.data.images import image_path
from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.data.reading import DataError
from workbook.errors import RunError
from workbook.notebooks import NOTEBOOKS, write_html
from workbook.runs.checkpoints import read_checkpoint, save_checkpoint
from workbook.runs.config import read_config
from workbook.runs.folder import Run
from workbook.training.job import prepare
from workbook.training.parameters import check_parameters
from workbook.training.trackers import TrackerError, open_tracker
from workbook.training.train import train
from workbook.views.compare.tables import as_text
from workbook.views.run.pictures import detections

ROOT = NOTEBOOKS.parent
LIB = [(path, ast.parse(path.read_text())) for path in sorted((ROOT / "lib").rglob("*.py"))]


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


# ---- nothing of a file is run ----------------------------------------------------------------------------------------


def test_every_file_of_tensors_is_read_as_tensors_alone() -> None:
    seen = 0
    for path, tree in LIB:
        for call in calls(tree):
            name = ast.unparse(call.func)
            if name == "torch.load":
                seen += 1
                assert any(key.arg == "weights_only" and ast.unparse(key.value) == "True" for key in call.keywords), path
            assert name not in ("pickle.load", "pickle.loads", "joblib.load", "load_checkpoint", "eval", "exec", "yaml.load"), path
            assert not any(key.arg == "allow_pickle" for key in call.keywords), path
            shipped = path.name == "recipes.py"  # the configs inside mmdet's own wheel
            assert name != "Config.fromfile" or shipped, f"{path}: a run's config is read by read_config"
    assert seen >= 2


def test_a_checkpoint_that_holds_code_does_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pth", {"state_dict": Harmful(tmp_path / "proof")})
    with pytest.raises(RunError, match="last.pth cannot be read"):
        read_checkpoint(tmp_path / "last.pth")
    assert not (tmp_path / "proof").exists()


def test_a_training_that_is_given_a_weight_file_with_code_does_nothing(tmp_path: Path, trained: Trained, own: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "given.pth", {"a": Harmful(tmp_path / "proof")})
    for parameter in ("pretrained", "load_from"):
        with pytest.raises(Exception, match="given.pth cannot be read as weights.*which is never run"):
            train(prepare(check_parameters({**ASKED, "tracker": "none", parameter: str(tmp_path / "given.pth")})))
    assert not (tmp_path / "proof").exists() and not list(tmp_path.rglob("last.pth"))


@pytest.fixture
def own(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The data of the trained run, and an empty outputs folder."""
    monkeypatch.setenv("WORKBOOK_DATA", str(trained.data))
    return monkeypatch


def test_a_runs_config_is_read_as_mmcv_reads_it(trained: Trained) -> None:
    path = trained.run.folder / "config.py"
    assert read_config(path)._cfg_dict == Config.fromfile(str(path))._cfg_dict


@pytest.mark.parametrize("line", [
    "open({proof!r}, 'w')", "data = open({proof!r}, 'w')", "import os", "data = [open({proof!r}, 'w') for _ in 'a']",
    "data = {{**__import__('os').environ}}", "data = f'{{open({proof!r}, 1)}}'", "class A: open({proof!r}, 'w')", "model.type = 1",
])
def test_no_code_of_a_runs_config_is_run(line: str, tmp_path: Path, trained: Trained) -> None:
    (tmp_path / "config.py").write_text((trained.run.folder / "config.py").read_text() + line.format(proof=str(tmp_path / "proof")))
    with pytest.raises(RunError, match="with code, which is never run"):
        read_config(tmp_path / "config.py")
    assert not (tmp_path / "proof").exists()


def test_a_config_without_its_base_is_complete(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(f"open({str(tmp_path / 'proof')!r}, 'w')")
    (tmp_path / "config.py").write_text("_base_ = './base.py'\ndata = {}")
    read_config(tmp_path / "config.py")
    assert not (tmp_path / "proof").exists()


# ---- images stay in their folder -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["climbs", "is absolute", "is a link", "lies in a linked folder"])
def test_an_image_cannot_leave_its_folder(how: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "pets")
    (tmp_path / "private").mkdir()
    secret = (folder / "images" / "val_1.png").rename(tmp_path / "private" / "secret.png")
    (folder / "images" / "link.png").symlink_to(secret)
    (folder / "images" / "linked").symlink_to(secret.parent)
    name = {"climbs": "../../private/secret.png", "is absolute": str(secret), "is a link": "link.png",
            "lies in a linked folder": "linked/secret.png"}[how]
    with pytest.raises(DataError, match="leaves images/|link to a place outside images/"):
        image_path(folder / "images", name)
    content = load(folder, "val")
    content["images"][0]["file_name"] = name
    save(folder, "val", content)
    data = {"ann_file": str(folder / "val.json"), "img_prefix": str(folder / "images"), "classes": ["dog", "cat"]}
    with pytest.raises(DataError, match="leaves images/|link to a place outside images/"):
        OrderedCocoDataset(pipeline=[], **data)
    run = Run(tmp_path / "run")  # from somebody else, with such a val file
    run.folder.mkdir()
    (run.folder / "config.py").write_text(f"data = {{'train': {data!r}, 'val': {data!r}}}\n")
    (run.folder / "predictions.json").write_text("[]")
    with pytest.raises(DataError, match="leaves images/|link to a place outside images/"):
        detections(run)
    plt.close("all")


def test_the_images_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "pets")
    (folder / "images").rename(tmp_path / "photos")
    (folder / "images").symlink_to(tmp_path / "photos")
    assert image_path(folder / "images", "val_1.png").is_file()


# ---- names are text --------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """What a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.inside = tag
        values = dict(attributes)
        if "onerror" in values or str(values.get("href") or "").startswith("javascript") or values.get("src") == "x":
            self.found.append(str(attributes))

    def handle_data(self, data: str) -> None:
        if self.inside == "script" and data.strip().startswith("alert(1)"):
            self.found.append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def executed(name: str, output: Path, **parameters: Any) -> str:
    """The notebook's cells in this process, shown by IPython and made a page by the workbook: no new process has to load mmdet."""
    notebook, shell = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4), InteractiveShell()
    shell.display_pub = published = CapturingDisplayPublisher()
    shell.display_trap.hook = CapturingDisplayHook(shell, published.outputs)
    for cell in [cell for cell in notebook.cells if cell.cell_type == "code"]:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join([cell.source, *(f"{key} = {value!r}" for key, value in parameters.items())])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            shell.run_cell(cell.source, store_history=True).raise_error()
        cell.outputs = [nbformat.v4.new_output("stream", text=printed.getvalue())] if printed.getvalue() else []
        cell.outputs += [nbformat.v4.new_output("display_data", data=out["data"]) for out in published.outputs]
        published.outputs.clear()
    nbformat.write(notebook, output)
    plt.close("all")
    return write_html(output).read_text()


@pytest.fixture(scope="module")
def pages(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executed notebooks and their pages, beside `outputs` with the run and a failed one; made while keys were set."""
    root = tmp_path_factory.mktemp("pages")
    run = trained.copy(root / "outputs")
    other = run.folder.rename(run.folder.with_name(f"{run.name}<script>alert(1)"))
    trained.copy(root / "outputs")
    Run(other).update(status="failed", error="Error: <img src=x onerror=alert(1)> [a](javascript:alert(1))")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WORKBOOK_DATA": str(trained.data), "WORKBOOK_OUTPUTS": str(root / "outputs"), "WANDB_API_KEY": KEY,
                            "MLFLOW_TRACKING_URI": f"http://user:{KEY}@127.0.0.1:9"}.items():
            patch.setenv(name, value)
        executed("1_data", root / "1_data.ipynb", dataset=DATASET, image_size=128)
        executed("5_compare", root / "5_compare.ipynb")
        executed("2_train", root / "2_train.ipynb", **ASKED)
    return root


def test_no_name_becomes_a_part_of_a_page(pages: Path) -> None:
    for name in ("1_data", "2_train", "5_compare"):
        page = (pages / f"{name}.html").read_text()
        tags = Tags()
        tags.feed(page)
        assert tags.found == [], f"{name}: {tags.found}"
        assert "<table" in page and "&lt;img src=x onerror=alert(1)&gt;" in page, "the names are there, as text"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in (pages / "1_data.html").read_text()
    assert as_text(CLASSES[1]).count("](") == 0


# ---- who may listen, and what may be told ----------------------------------------------------------------------------


def test_jupyter_and_the_app_are_started_for_this_machine_alone() -> None:
    printed = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    assert re.search(r"jupyter-lab' --ip 127\.0\.0\.1", printed)
    assert ADDRESS == "127.0.0.1"
    launches = [call for _, tree in LIB for call in calls(tree) if ast.unparse(call.func).endswith("launch_app")]
    assert launches and all(any(key.arg == "address" and ast.unparse(key.value) == "ADDRESS" for key in call.keywords) for call in launches)
    assert '"--bind_ip", "127.0.0.1"' in (ROOT / "lib" / "workbook" / "browse" / "mongod.py").read_text()


def holders(folder: Path) -> list[Path]:
    """The files in which a key stands."""
    return [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_no_key_gets_into_what_a_run_and_its_notebook_leave(trained: Trained, pages: Path) -> None:
    assert list((trained.outputs / "trackers" / "wandb").iterdir()), "the tracker was on"
    assert holders(trained.outputs) == [] == holders(pages)


class Mlflow(http.server.BaseHTTPRequestHandler):
    """A server that takes a run, and then breaks every connection."""

    def answer(self) -> None:
        body = {"experiments/get-by-name": b'{"experiment": {"experiment_id": "1"}}', "runs/search": b"{}",
                "runs/create": b'{"run": {"info": {"run_id": "1", "run_uuid": "1"}}}'}
        found = next((text for end, text in body.items() if end in self.path), None)
        if found is None and "params" not in self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode():
            self.connection.close()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(found or b"{}")))
        self.end_headers()
        self.wfile.write(found or b"{}")

    do_GET = do_POST = answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("breaks", ["at once", "later"])
def test_a_tracker_that_breaks_tells_no_login(breaks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mlflow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:{KEY}@127.0.0.1:{server.server_port}")
        if breaks == "at once":
            monkeypatch.setattr(Mlflow, "do_GET", lambda self: self.connection.close())
        with pytest.raises(TrackerError, match="tracker=mlflow: cannot use http://127.0.0.1") as caught:
            tracker = open_tracker("mlflow", "RUN", tmp_path, {"epochs": 1}, tmp_path / "trackers")
            assert breaks == "later"
            tracker.log(1, {"train/loss": 1.0})
        server.shutdown()
    assert KEY not in str(caught.value) and caught.value.__suppress_context__


def test_the_lab_has_the_workbooks_own_kernel_whatever_jupyter_would_find(tmp_path: Path) -> None:
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": ["/usr/bin/python3"], "display_name": "another", "language": "python"}))
    printed = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    start, _, _ = re.search(r"^JUPYTER_PATH=.*$", printed, re.M)[0].partition("jupyter-lab'")
    found = subprocess.run(["bash", "-c", f"{start}jupyter' kernelspec list --json"], cwd=ROOT, capture_output=True, text=True,
                           env={**os.environ, "JUPYTER_PATH": str(tmp_path)}, timeout=120)
    own = json.loads(found.stdout)["kernelspecs"]["python3"]["resource_dir"]
    assert Path(own).resolve().is_relative_to(Path(sys.prefix).resolve()), own
