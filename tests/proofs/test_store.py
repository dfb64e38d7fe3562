"""proof.json: what is written is read again, with the keys that others rely on; a finished one is not overwritten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from made_proofs import NOTHING_HELPS, PROVEN, UNPROVEN
from workbook.errors import RunError
from workbook.proofs.store import load_proof, save_proof, search_folder


@pytest.mark.parametrize("proof", [PROVEN, UNPROVEN, NOTHING_HELPS])
def test_what_is_written_is_read_again(proof, tmp_path: Path) -> None:
    save_proof(tmp_path, proof)
    assert load_proof(tmp_path) == proof
    content = json.loads((tmp_path / "proof.json").read_text())
    assert list(content) == ["run", "size", "winner", "seeds", "control", "sizes", "cost", "arms"]
    assert all(set(one) == {"before", "after", "difference", "low", "high", "promised"} for one in content["sizes"].values())


def test_a_finished_one_stays_and_an_unproven_one_is_replaced(tmp_path: Path) -> None:
    save_proof(tmp_path, UNPROVEN)
    save_proof(tmp_path, PROVEN)
    with pytest.raises(RunError, match="proof.json is there already: delete it to search anew"):
        save_proof(tmp_path, NOTHING_HELPS)
    assert load_proof(tmp_path) == PROVEN and sorted(path.name for path in tmp_path.iterdir()) == ["proof.json"]


def test_none_and_a_broken_one(tmp_path: Path) -> None:
    assert load_proof(tmp_path) is None
    (tmp_path / "proof.json").write_text('{"run": "x"}')
    with pytest.raises(RunError, match="proof.json is not as the search writes it"):
        load_proof(tmp_path)


def test_a_gain_is_claimed_only_where_the_interval_is_above_zero() -> None:
    assert PROVEN.is_claimed and PROVEN.is_proven
    touching = replace(PROVEN.sizes["small"], low=0.0)
    assert not replace(PROVEN, sizes={**PROVEN.sizes, "small": touching}).is_claimed
    assert not UNPROVEN.is_claimed and not UNPROVEN.is_proven
    assert not NOTHING_HELPS.is_claimed and NOTHING_HELPS.is_proven


def test_every_run_and_size_has_a_folder() -> None:
    assert search_folder("a-b-12345678", "small").parts[-2:] == ("remedies", "a-b-12345678-small")
