"""The grid of windows over an image, against masks of its pixels."""

from __future__ import annotations

import numpy as np
import pytest

from workbook.data.windows import MIN_VISIBLE, OVERLAP, Window, clip, cut_by_border, grid, shared, visible_share


def sizes(count: int, seed: int, lowest_side: int = 2) -> list[tuple[int, int, int]]:
    """Width and height of an image, and the side of a window: random, odd ones too, and some that just fit."""
    rng = np.random.default_rng(seed)
    drawn = [tuple(map(int, rng.integers((1, 1, lowest_side), (400, 400, 160)))) for _ in range(count)]
    return [*drawn, (64, 64, 64), (65, 64, 64), (116, 115, 64), (117, 180, 64), (1, 300, 50), (300, 1, 50)]


@pytest.mark.parametrize("seed", range(3))
def test_the_grid_covers_every_pixel_and_nothing_beside_the_image(seed: int) -> None:
    for width, height, side in sizes(100, seed):
        count = np.zeros((height, width), int)
        for window in grid(width, height, side):
            assert (window.width, window.height) == (min(side, width), min(side, height))
            assert window.x >= 0 and window.y >= 0 and window.x + window.width <= width and window.y + window.height <= height
            count[window.rows, window.columns] += 1
        assert count.min() >= 1, (width, height, side)


def test_neighbours_share_a_fifth_and_no_window_is_there_twice() -> None:
    for width, height, side in sizes(200, 5):
        windows = grid(width, height, side)
        assert len(set(windows)) == len(windows)
        assert shared(side) >= OVERLAP * side
        for starts, length in ((sorted({w.x for w in windows}), width), (sorted({w.y for w in windows}), height)):
            steps = np.diff(starts)
            assert (steps <= side - shared(side)).all()
            assert len(starts) == 1 or starts[-1] + side == length  # the last is moved to the border, none is cut
            assert (np.array(starts[:-2]) + side < length).all()  # and none is there that the last makes needless


def test_an_image_no_larger_than_a_window_is_one_window() -> None:
    assert grid(64, 48, 64) == [Window(0, 0, 64, 48)]
    assert len(grid(65, 48, 64)) == 2


def test_a_window_without_side_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 pixels, not 1"):
        grid(100, 100, 1)


def test_the_visible_share_is_that_of_the_pixels() -> None:
    rng = np.random.default_rng(0)
    window = Window(20, 10, 50, 40)
    for _ in range(100):
        x, y = rng.integers(0, 80, 2)
        w, h = rng.integers(1, 60, 2)
        mask = np.zeros((200, 200), bool)
        mask[y : y + h, x : x + w] = True
        box = np.array([[x, y, x + w, y + h]], float)
        assert visible_share(box, window)[0] == pytest.approx(mask[window.rows, window.columns].sum() / mask.sum())
        part = clip(box, window)[0]
        rows, columns = np.nonzero(mask[window.rows, window.columns])
        if len(rows):
            assert part.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_every_object_no_larger_than_a_window_is_an_object_in_one_of_them() -> None:
    rng = np.random.default_rng(1)
    for width, height, side in sizes(60, 2, lowest_side=40):
        windows = grid(width, height, side)
        for _ in range(20):
            w, h = rng.uniform(1, min(side, width) + 1e-9), rng.uniform(1, min(side, height) + 1e-9)
            x, y = rng.uniform(0, width - w + 1e-9), rng.uniform(0, height - h + 1e-9)
            box = np.array([[x, y, x + w, y + h]])
            assert max(visible_share(box, window)[0] for window in windows) >= MIN_VISIBLE


def test_a_box_that_is_left_to_a_neighbour_is_whole_there_and_not_left_to_another() -> None:
    rng = np.random.default_rng(3)
    cut = 0
    for width, height, side in sizes(20, 4, lowest_side=60):
        windows = grid(width, height, side)
        for window in windows:
            low = window.corners[:2]
            sides = rng.uniform(1, [window.width, window.height], (30, 2)) * rng.choice([0.1, 1], (30, 1))
            start = low + rng.choice([0, 0.5, 1], (30, 2)) * (window.corners[2:] - low - sides)  # many at the borders
            boxes = np.concatenate([start, start + sides], axis=1)
            marked = cut_by_border(boxes - np.tile(low, 2), window, width, height)
            cut += marked.sum()
            for box in boxes[marked]:
                others = [w for w in windows if visible_share(box[None], w)[0] > 1 - 1e-9 and w != window]
                assert any(not cut_by_border(box[None] - np.tile(w.corners[:2], 2), w, width, height)[0] for w in others)
    assert cut > 100


@pytest.mark.parametrize(
    ("box", "is_cut"),
    [
        ((90, 40, 100, 50), True),  # at the right border, behind which the image goes on
        ((50, 0, 60, 10), False),  # at the upper border, which is the image's
        ((50, 90, 60, 100), True),  # at the lower border
        ((40, 40, 60, 60), False),  # in the middle
        ((70, 40, 100, 50), False),  # wider than what two windows share: the neighbour may cut it as well
        ((98, 70, 100, 100), False),  # at two borders, and too high for the neighbour below
    ],
)
def test_which_boxes_are_cut(box: tuple[int, int, int, int], is_cut: bool) -> None:
    assert cut_by_border(np.array([box], float), Window(0, 0, 100, 100), 180, 180).tolist() == [is_cut]
