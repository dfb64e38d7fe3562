"""JSON and text files of a folder, as the importers read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from workbook.data.importers.source import Source

SAMPLED = 20  # files that a format is recognised by


def read_json(path: Path) -> Any:
    """The content of a JSON file, not to be changed. Raises ValueError, with words for people."""
    stat = path.stat()
    return _parsed(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=SAMPLED)  # what was parsed to recognise the format is read next
def _parsed(path: Path, size: int, time: int) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON ({error}): is it cut off? Export it again") from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None


def kind(content: Any) -> str:
    """coco, labelme, results (a list of detections), or empty for anything else."""
    if isinstance(content, dict):
        has = {key for key in ("images", "annotations", "categories", "shapes") if isinstance(content.get(key), list)}
        if "images" in has and has & {"annotations", "categories"}:
            return "coco"
        return "labelme" if "shapes" in has and "imagePath" in content else ""
    first = content[0] if isinstance(content, list) and content else None
    return "results" if isinstance(first, dict) and {"image_id", "category_id", "score"} <= set(first) else ""


def first_of_kind(source: Source, wanted: str) -> str:
    """The first of a few JSON files that is of this kind, relative to the folder; empty where none is."""
    for path in islice(source.with_suffix(".json"), SAMPLED):
        try:
            if kind(read_json(path)) == wanted:
                return source.shown(path)
        except ValueError:
            continue  # named where nothing else fits, and when the format is asked for
    return ""


def unreadable_json(source: Source) -> Iterator[tuple[Path, str]]:
    """JSON files that are broken, or hold detections, with the reason."""
    for path in islice(source.with_suffix(".json"), SAMPLED):
        try:
            if kind(read_json(path)) == "results":
                yield path, "it is a list of detections, which are no labels"
        except ValueError as error:
            yield path, str(error)


def some_lines(path: Path, most: int = 5) -> list[str]:
    """The first lines of a text that hold something; none where it is no text."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [line.strip() for line in islice(file, 50) if line.strip()][:most]
    except (OSError, UnicodeDecodeError):
        return []
