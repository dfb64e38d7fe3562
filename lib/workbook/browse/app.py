"""The FiftyOne App on 127.0.0.1: which port it has, and how a person on another machine gets there."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partialmethod
from typing import Any

from workbook.browse.database import BrowseError, connect
from workbook.runs.folder import Run
from workbook.runs.lease import user_name

ADDRESS = "127.0.0.1"  # the App asks for no password: nobody but this machine's users may reach it
PORTS = 100  # ports to look at, from the wanted one upwards
PATIENCE = 300  # seconds for its server: it takes 20 of a core, and on a busy machine FiftyOne's own 60 are over before


def launch(dataset: Any, port: int) -> Any:
    """Start the App with this dataset; returns FiftyOne's session, whose `server_port` says where. It does not block.

    port: the one wanted; when it is taken, the next free one. Raises BrowseError when none is free, or the server does not
    start.
    """
    fo = connect()
    from fiftyone.core.context import is_notebook_context
    from fiftyone.core.service import Service, ServiceListenTimeout

    own = Service._wait_for_child_port
    try:
        Service._wait_for_child_port = partialmethod(own, timeout=PATIENCE)
        # remote: it opens no browser here; a notebook opens none, and FiftyOne refuses it there
        return fo.launch_app(dataset, address=ADDRESS, port=free_port(port), remote=not is_notebook_context(), auto=False)
    except ServiceListenTimeout:
        raise BrowseError(f"the App did not start within {PATIENCE // 60} minutes: the machine is too busy. The dataset and its views "
                          "are kept; run the same again when there is less to do, or look at the contact sheets in 3_diagnose.html"
                          ) from None
    finally:
        Service._wait_for_child_port = own


def free_port(wanted: int) -> int:
    """The wanted port, or the first free one after it: FiftyOne would join whatever App has the port already."""
    if not 1 <= wanted <= 65_535:
        raise BrowseError(f"port {wanted} is none: give one from 1 to 65535 (below 1024 only root may listen)")
    for port in range(wanted, min(wanted + PORTS, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, port))
            except OSError:
                continue
            return port
    raise BrowseError(f"none of the ports {wanted} to {min(wanted + PORTS, 65_536) - 1} may be used: give another port")


def directions(port: int, wanted: int) -> str:
    """Where to point the browser, on this machine and on another one."""
    taken = f"Port {wanted} is taken or not allowed, so this is {port}.\n" if port != wanted else ""
    host = socket.gethostname()
    return (f"{taken}The App: http://{ADDRESS}:{port}\n"
            f"From another machine, first: ssh -L {port}:{ADDRESS}:{port} {user_name()}@{host}")


def open_or_say(dataset: Any, runs: Sequence[Run], wanted: bool, port: int) -> str:
    """Where the App is when it is wanted here, else the command that opens it with the same dataset."""
    if wanted:
        return directions(launch(dataset, port).server_port, port)
    return f"To open the App: workbook browse {' '.join(run.name for run in runs)}"
