"""The `workbook` command: the notebooks' work without a notebook open."""

from __future__ import annotations

import errno
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workbook import cli_data, cli_results
from workbook.cli_options import Address, Jobs, RunName, Where
from workbook.ending import end_quickly
from workbook.errors import WorkbookError
from workbook.files import WRITABLE, outputs_root
from workbook.parameters import check as check_values
from workbook.runs.folder import Run
from workbook.runs.listing import FIRST_RUN, finished_run, open_run
from workbook.terminal import exit_when_stopped, open_console
from workbook.training.parameters import Parameters, check_parameters

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
                  help="Which backbone is better on your images, why are small objects missed, and what would fix it.")
FIELDS = Parameters.model_fields
_IMAGE_SIZE = str(FIELDS["image_size"].default[0])
ONE_A_SWEEP = ("device", "devices", "tracker", "checkpoint_minutes", "overrides")  # all runs of a sweep share these
Command = Callable[..., None]
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """The command's entry: a problem that the user can mend is said in words, not as a traceback."""
    end_quickly()
    try:
        COMMAND()
    except WorkbookError as error:
        _refuse(f"{type(error).__name__}: {error}")
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        where = Path(error.filename).parent if error.filename else outputs_root()
        _refuse(f"cannot write in {where}: {error.strerror}. {WRITABLE}")


def _refuse(words: str) -> None:
    Console(stderr=True, highlight=False).print(words, markup=False, style="red", soft_wrap=True)
    sys.exit(2)


def _flowing(words: str) -> str:
    """The paragraphs without the line breaks of the source, which typer would show in all but the first."""
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in words.split("\n\n"))


def _with_parameters(make: Callable[[str], inspect.Parameter]) -> Callable[[Command], Command]:
    """Gives a command an option for each parameter of a run, in the place of `**given`, before the options of its
    own."""
    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        others = [option for option in own.parameters.values() if option.kind is not inspect.Parameter.VAR_KEYWORD]
        arguments = [option for option in others if option.kind is not inspect.Parameter.KEYWORD_ONLY]
        named = [option for option in others if option.kind is inspect.Parameter.KEYWORD_ONLY]
        options = [*arguments, *map(make, FIELDS), *named]
        command.__signature__ = own.replace(parameters=options)  # type: ignore[attr-defined]
        return command

    return decorate


def _one_value(name: str) -> inspect.Parameter:
    """The option of `run`: a value, with the default of `Parameters`."""
    field = FIELDS[name]
    kind, default = (str, _IMAGE_SIZE) if name == "image_size" else (field.annotation, field.default)
    annotation = Annotated[kind, typer.Option(help=field.description)]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _several_values(name: str) -> inspect.Parameter:
    """The option of `sweep`: nothing, a value, or where runs may differ in it several with commas."""
    field = FIELDS[name]
    kind, more = (field.annotation, "") if name in ONE_A_SWEEP else (str, "; several with commas")
    annotation = Annotated[kind | None, typer.Option(help=f"{field.description}{more}")]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


@app.command(epilog=f"Example: {FIRST_RUN}")
@_with_parameters(_one_value)
def run(**given: Any) -> None:
    """Train one detector with one backbone; the same parameters always lead to the same run folder.

    A finished run is not trained again, a broken-off one goes on. The last line is the run folder. Ctrl-C and SIGTERM save a
    checkpoint and leave (exit codes 130 and 143).
    """
    asked = check_parameters(given)
    from workbook.notebooks import execute_notebook
    from workbook.training import launch
    from workbook.training.job import prepare

    with exit_when_stopped():
        done = launch.run(prepare(asked))
    # the run is done, so the notebook only shows it
    page = execute_notebook("2_train", done.folder / "2_train.ipynb", asked.model_dump(mode="json"))
    print(f"page: {page}")
    print(done.folder)


@app.command(epilog="Example: workbook rerun faster_rcnn-tf_efficientnet_lite0-cb294171")
def rerun(name: RunName) -> None:
    """Train a finished run again, beside it, and compare every figure and the weights.

    Ends with code 1 when figures differ by more than 1e-9 on the same hardware with the same versions.
    """
    from workbook.training.rerun import rerun as train_again

    with exit_when_stopped():
        found = train_again(open_run(name))
    table = Table("figure", "before", "after", "difference", box=None)
    for row in found.table.to_dict("records"):
        table.add_row(escape(row["figure"]), str(row["before"]), str(row["after"]), f"{row['difference']:.3g}")
    open_console().print(table)
    print("The same to the bit." if found.equal else "Not the same to the bit. What is another:")
    if not found.equal:
        print(*(found.changes or ["nothing that is known: code, versions, hardware, settings and weight files are the same"]), sep="\n")
    raise typer.Exit(1 if found.broken else 0)


@app.command(epilog="Example: workbook sweep --backbone resnet50,swin_t --seed 0,1,2 --jobs 2")
@_with_parameters(_several_values)
def sweep(
    file: Annotated[Path | None, typer.Argument(help="a YAML file of grids, such as studies/demo.yaml; options replace its keys")] = None,
    *,
    jobs: Jobs = None,
    on: Where = "local",
    address: Address = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, print the plan, train nothing")] = False,
    **given: Any,
) -> None:
    """Train every combination of the given values: commas separate several. Done runs are skipped, broken-off ones go on.

    Everything is checked before the first run starts. Ends with 1 when a run failed; the same call takes up what is left.
    """
    from workbook.sweep.command import run_sweep

    asked = {name: value for name, value in given.items() if value is not None}
    raise typer.Exit(run_sweep(file, asked, jobs, on, address, dry_run))


@app.command(epilog="Example: workbook study studies/original.yaml --dataset litter --seed 0,1,2")
@_with_parameters(_several_values)
def study(
    file: Annotated[Path, typer.Argument(help="a YAML file of studies/: question, claims, grid; options replace the grid's keys")],
    *,
    jobs: Jobs = None,
    on: Where = "local",
    address: Address = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, print claims and plan, train nothing")] = False,
    **given: Any,
) -> None:
    """From a hypothesis to verdicts: trains what the study lacks, diagnoses, tests its claims, writes outputs/studies/NAME.

    A claim comes out supported, contradicted, open (with how many seeds or images would decide it) or confounded. Ends with 1 when a run
    failed; the same call takes up what is left.
    """
    from workbook.sweep.study import run_study

    asked = {name: value for name, value in given.items() if value is not None}
    raise typer.Exit(run_study(file, asked, jobs, on, address, dry_run))


@app.command(epilog="Example: workbook diagnose faster_rcnn-tf_efficientnet_lite0-cb294171")
def diagnose(
    name: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder; `workbook list` shows them")],
    other: Annotated[str, typer.Option(help="a second run on the same val images to set beside it")] = "",
    iou: Annotated[float, typer.Option(help="from this overlap on a box fits its object", min=0.01, max=0.99)] = 0.5,
) -> None:
    """Why a run's objects are missed: notebook 3 in the run folder, with its page. What is known already is only read."""
    from rich.markdown import Markdown

    from workbook.diagnosis.parameters import DiagnosisParameters
    from workbook.notebooks import execute_notebook

    check_values(DiagnosisParameters, {"run": name, "other": other, "iou": iou})
    chosen = finished_run(name)
    beside = finished_run(other) if other else None
    _diagnose_here([run for run in (chosen, beside) if run and not (run.folder / "waterfall.json").exists()], iou)
    page = execute_notebook("3_diagnose", chosen.folder / "3_diagnose.ipynb", {
        "run": str(chosen.folder), "other": str(beside.folder) if beside else "", "iou": iou})
    Console().print(Markdown((chosen.folder / "diagnosis.md").read_text()))
    print(f"page: {page}")


def _diagnose_here(runs: Sequence[Run], iou: float) -> None:
    """In this process, where it shows how far it is; a notebook then only reads."""
    if runs:
        from workbook.diagnosis.store import load_or_diagnose

        for run in runs:
            load_or_diagnose(run, iou)


@app.command(epilog="Example: workbook remedy faster_rcnn-tf_efficientnet_lite0-cb294171 --budget 30m")
def remedy(
    name: RunName,
    size: Annotated[str, typer.Option(help="whose AP is to rise: small, medium, large or all")] = "small",
    budget: Annotated[str, typer.Option(help="the time for all of it, such as 30m or 2h; empty = as long as it takes")] = "",
    jobs: Jobs = None,
    on: Where = "local",
    address: Address = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="diagnose, print the plan and its time, train nothing")] = False,
) -> None:
    """What would fix a run: remedies tried on images cut from train, the best one proven on val with fresh seeds.

    The plan and its time come first. Interrupted, the same call goes on. The result is outputs/remedies/RUN-SIZE/proof.json
    and its page.
    """
    from workbook.search.command import run_remedy
    from workbook.search.parameters import RemedyParameters

    check_values(RemedyParameters, {"run": name, "size": size, "budget": budget})
    chosen = finished_run(name)

    code = run_remedy(chosen, size, budget, jobs, on, address, dry_run)
    raise typer.Exit(code)


@app.command(epilog="Example: workbook browse faster_rcnn-swin_t-1a2b3c4d faster_rcnn-resnet50-5e6f7a8b")
def browse(
    runs: Annotated[list[str], typer.Argument(help="diagnosed runs on the same data; with several, what one finds and another misses")],
    port: Annotated[int, typer.Option(help="where the App listens, on 127.0.0.1 alone; when taken, the next free port")] = 5151,
) -> None:
    """The misses themselves, in the FiftyOne App, until Ctrl-C: truth, predictions, and saved views by stage."""
    from workbook.browse.app import directions, free_port, launch
    from workbook.browse.parameters import BrowseParameters
    from workbook.browse.samples import open_runs, read_runs
    from workbook.browse.views import build, table

    asked = check_values(BrowseParameters, {"runs": runs, "port": port})
    chosen = read_runs(open_runs(asked.runs))
    free_port(port)
    try:
        dataset = build(chosen)
        session = launch(dataset, port)
        views = Table("shows", "saved view", box=None)
        for row in table(dataset).to_dict("records"):
            views.add_row(escape(str(row["shows"])), escape(row["saved view"]))
        open_console().print(views)
        print(f"Dataset {dataset.name}: choose a saved view at the upper left of the App. Its description says what it shows.")
        print(directions(session.server_port, port), "Ctrl-C ends it; tags and views are kept.", sep="\n", flush=True)
        session.wait(-1)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


app.add_typer(cli_results.app)  # list, compare, report, evaluate, adopt
app.add_typer(cli_data.app)  # check, import, export, split
for _part in (app, cli_results.app, cli_data.app):
    for _command in _part.registered_commands:
        _command.help = _flowing(inspect.getdoc(_command.callback) or "")
COMMAND = typer.main.get_command(app)  # made while this loads: where it runs, a Ctrl-C is caught


if __name__ == "__main__":
    main()
