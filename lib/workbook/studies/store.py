"""What a study has found, in its folder: one writer at a time, atomic files, and a note of which a part is the person's own.

    outputs/studies/NAME/
        study.json     the study, its runs, and where the differences come from
        verdicts.json  [{claim, verdict, value, low, high, seeds, images, confounds, words}]
        note.md        the study in words; below its last line a person may write, and that stays
        7_study.ipynb  7_study.html  figures/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbook.errors import RunError
from workbook.files import outputs_root, read_json, write_json, write_text
from workbook.runs.lease import Lease
from workbook.studies.causes import Cause
from workbook.studies.study import Study
from workbook.studies.verdicts import Verdict

YOURS = "What stands below this line is yours: it stays when the note is made again."
_MARK = re.compile(rf"^<!-- {re.escape(YOURS)} Above it is [0-9a-f]{{16}}\. -->$", re.MULTILINE)
OWN_WORDS = "\n## Notes\n\n"


@dataclass(frozen=True)
class SavedStudy:
    """A study with its verdicts, as its folder holds it."""

    name: str
    file: str  # that it was read from; empty for a study of before that was kept
    question: str
    hypothesis: str
    claims: tuple[str, ...]
    references: tuple[str, ...]
    options: Mapping[str, Any]  # of the command, which replace keys of the grids
    datasets: tuple[str, ...]
    varies: Mapping[str, Sequence[str]]  # parameter → its values
    runs: tuple[str, ...]  # names of the finished ones
    unfinished: Mapping[str, str]  # name → why
    causes: tuple[Cause, ...]
    why_no_causes: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def folder(self) -> Path:
        return study_folder(self.name)


def studies_root() -> Path:
    """The folder that holds one folder a study."""
    return outputs_root() / "studies"


def study_folder(name: str) -> Path:
    return studies_root() / name


def require_own_folder(study: Study) -> None:
    """Raises RunError where the folder of its name holds the study of another file, which is still there."""
    path = study_folder(study.name) / "study.json"
    other = str(read_json(path).get("file", "")) if path.is_file() else ""
    if other and other != study.file and Path(other).is_file():
        raise RunError(f"{path.parent} holds the study of {other}, and {study.file} has the same name: rename one of the two files")


@contextmanager
def writing(name: str) -> Iterator[Path]:
    """The folder of a study while this process alone writes it. Raises RunError that names another one that does."""
    folder = study_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    lease = Lease(folder / ".lease.json")
    if owner := lease.acquire():
        raise RunError(f"{folder} is being written by {owner}: wait for it or stop it, then call again. What was trained is done")
    try:
        yield folder
    finally:
        lease.release()


def save(study: SavedStudy) -> None:
    """Write verdicts.json and study.json. The caller is in `writing`."""
    content = {key: value for key, value in asdict(study).items() if key != "verdicts"}
    write_json(study.folder / "verdicts.json", [verdict.to_json() for verdict in study.verdicts])
    write_json(study.folder / "study.json", content)


def load(name: str) -> SavedStudy:
    """The study of this name. Raises RunError that lists those there are, or names the file that does not fit."""
    folder = study_folder(name)
    if not name or not (folder / "study.json").is_file():
        there = ", ".join(known_studies()) or "none yet"
        raise RunError(f"no study '{name}' in {studies_root()}. There are: {there}. `workbook study studies/NAME.yaml` makes one")
    content = read_json(folder / "study.json")
    verdicts = load_verdicts(folder)
    try:
        tuples = {key: tuple(content[key]) for key in ("claims", "references", "datasets", "runs", "why_no_causes")}
        causes = tuple(Cause(**cause) for cause in content["causes"])
        return SavedStudy(**{"file": "", **content, **tuples, "causes": causes, "verdicts": verdicts})
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder / 'study.json'} is not as a study writes it ({error}): `workbook study` makes it again") from None


def load_verdicts(folder: Path) -> tuple[Verdict, ...]:
    """The verdicts in a study's folder. Raises RunError for a file that does not hold them."""
    content = read_json(folder / "verdicts.json")
    try:
        return tuple(Verdict.from_json(one) for one in content)
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder / 'verdicts.json'} holds no verdicts ({error}): `workbook study` makes it again") from None


def known_studies() -> list[str]:
    """The names of the studies that have verdicts."""
    return sorted(path.parent.name for path in studies_root().glob("*/verdicts.json"))


def write_note(folder: Path, text: str) -> Path | None:
    """Write note.md: the text, a line, and what a person has written below that line.

    Where somebody has changed what stands above the line, or taken the line away, the old note is saved beside it first. Returns the
    path of that copy, None when there is none.
    """
    path = folder / "note.md"
    old = path.read_text() if path.exists() else ""
    mark = _MARK.search(old)
    own = old[mark.end() + 1 :] if mark else OWN_WORDS
    copy = None
    if old and (mark is None or mark.group() != _mark(old[: mark.start()])):
        copy = _free_name(folder)
        write_text(copy, old)
    write_text(path, f"{text.rstrip()}\n\n{_mark(text.rstrip() + chr(10) * 2)}\n{own}")
    return copy


def _mark(text: str) -> str:
    """The line between what is made and what is the person's; it knows what stands above it."""
    return f"<!-- {YOURS} Above it is {hashlib.sha256(text.encode()).hexdigest()[:16]}. -->"


def _free_name(folder: Path) -> Path:
    number = 1
    while (folder / f"note.old-{number}.md").exists():
        number += 1
    return folder / f"note.old-{number}.md"


def saved_from(study: Study, **found: Any) -> SavedStudy:
    """The study with what was found; `found` are the other fields of SavedStudy."""
    claims = tuple(claim.text for claim in study.claims)
    return SavedStudy(
        name=study.name, file=study.file, question=study.question, hypothesis=study.hypothesis, claims=claims,
        references=study.references, **found,
    )
