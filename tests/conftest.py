"""For every test: no network beyond this machine, and no file outside the test's own folder."""

import errno
import ipaddress
import os
import socket
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported

import matplotlib
import pytest

matplotlib.use("Agg")  # of this process alone: the notebooks that a test runs keep their inline pictures


@pytest.fixture(autouse=True, scope="session")
def offline():
    """A connection to another machine fails at once, as it does without a network."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, _local_only(getattr(socket.socket, name)))
    patch.setattr(socket, "getaddrinfo", _local_names_only(socket.getaddrinfo))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that a test makes without saying where land in its temporary folder, never among the user's."""
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """One real finished run, with names and keys that may show nowhere (see trained_run.py); tests copy it before they break it."""
    from trained_run import train_one

    return train_one(tmp_path_factory.mktemp("trained"))


def _local_only(connect):
    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise OSError(errno.ENETUNREACH, f"tests run offline, and something wants {address[0]}")
        return connect(self, address)

    return guarded


def _local_names_only(getaddrinfo):
    def guarded(host, *rest, **more):
        if host and not _is_local(host.decode() if isinstance(host, bytes) else host):
            raise socket.gaierror(socket.EAI_AGAIN, f"tests run offline, and something wants {host}")
        return getaddrinfo(host, *rest, **more)

    return guarded


def _is_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in ("localhost", socket.gethostname(), "")
    return address.is_loopback or address.is_unspecified
