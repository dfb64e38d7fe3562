"""Options that several commands have in common."""

from typing import Annotated

import typer

RunName = Annotated[str, typer.Argument(metavar="RUN", help="a finished run's name or folder; `workbook list` shows them")]
Jobs = Annotated[int | None, typer.Option(help="runs at once, sharing the cores; else 1, with Ray one a GPU or node", min=1)]
Where = Annotated[str, typer.Option(help="local, or ray: each run a task of a Ray cluster (docs/cluster.md)")]
Address = Annotated[str, typer.Option(help="of the Ray cluster, such as auto; empty starts one on this machine")]
