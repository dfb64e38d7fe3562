"""The pictures of a dataset: how many, how large, which are small, and some of the photos with their boxes.

Every picture can be read without colour: hatch, line style or position says the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullFormatter

from workbook.data.catalog import Dataset
from workbook.data.images import image_path
from workbook.data.reading import Annotation, DataError, is_crowd, read_coco
from workbook.evaluation.sizes import sizes_of
from workbook.views.style import COLORS, MISSING, NOTHING, OUTSIDE, SIZES, new_axes, new_grid

# split → (colour, hatch, line style)
SPLITS = {"train": (COLORS[7], "", "-"), "val": (COLORS[0], "///", "--")}
# what a box shows → (colour, line style)
BOXES: dict[str, tuple[str, Literal["-", "--", ":"]]] = {
    "small": (SIZES["small"][2], "-"), "medium": (SIZES["medium"][2], "--"), "large": (SIZES["large"][2], ":"),
}
CROWD = ("white", (0, (1, 3)))
BORDERS = (32, 96)  # pixels: COCO's sizes by the side of a square


def class_counts(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Objects of every class in train and in val, most in train first; `table` is that of `workbook.data.objects.counts`."""
    wide = table.drop(index="all", level="class")["objects"].unstack("split").sort_values("train", ascending=False)
    ax = ax or new_axes(8, 1.4 + 0.42 * len(wide))
    rows = np.arange(len(wide))
    for offset, (split, (color, hatch, _)) in zip((-0.2, 0.2), SPLITS.items(), strict=True):
        values = wide[split].to_numpy(dtype=int)
        ax.barh(rows + offset, values, height=0.38, color=color, hatch=hatch, edgecolor="white",
                label=f"{split} (n = {values.sum()} in {table.loc[(split, 'all'), 'images']} images)")
        for row, value in zip(rows, values, strict=True):
            words = f" {value}" if value else f" {NOTHING}"
            ax.text(value, row + offset, words, va="center", fontsize=8.5, **({} if value else MISSING))
    ax.set(yticks=rows, yticklabels=wide.index, ylim=(len(wide) - 0.4, -0.6), xlabel="objects (crowds not counted)")
    ax.set_xlim(0, 1.12 * max(1, wide.to_numpy().max()))
    ax.grid(visible=False, axis="y")
    ax.set_title("Objects per class")
    ax.legend(**OUTSIDE)
    return ax


def object_sizes(found: pd.DataFrame, *, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """How large the objects are in the original and after the resize of training, one panel each, at the same scales.

    `found` is that of `workbook.data.objects.objects`. A side is that of a square of the object's area; each split is 100%.
    """
    panels = list(axes) if axes is not None else list(
        plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", sharex=True, sharey=True)[1])
    sides = np.sqrt(found[["area", "area_resized"]].to_numpy(dtype=float))
    low = sides.min(initial=BORDERS[0] / 2)  # each size has room for its name, also where no object has it
    high = sides.max(initial=BORDERS[1] * 2)
    bins = np.geomspace(max(low, 1) * 0.95, high * 1.05, 30)
    into = "x".join(map(str, found.attrs["image_size"]))
    columns = {"area": "in the original", "area_resized": f"after the resize into {into}"}
    for ax, (column, when) in zip(panels, columns.items(), strict=True):
        for split, (color, _, style) in SPLITS.items():
            values = np.sqrt(found.loc[found["split"] == split, column].to_numpy(dtype=float)).clip(bins[0], bins[-1])
            weights = np.full(len(values), 100 / max(len(values), 1))
            filled = split == "train"
            ax.hist(values, bins.tolist(), weights=weights, histtype="stepfilled" if filled else "step", color=color,
                    alpha=0.55 if filled else 1, linewidth=1.6, linestyle=style, label=f"{split} (n = {len(values)})")
        _size_borders(ax, found[column])
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator([2, 4, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048]))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set(xlabel="side of the object, √area (pixels, log scale)", xlim=(bins[0], bins[-1]))
        ax.set_title(f"Object sizes {when}", pad=18)
    panels[0].set_ylabel("share of the split's objects (%)")
    panels[-1].legend(**OUTSIDE)
    return panels


def small_share(found: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """The share of small objects of each class, in the original (circle) and after the resize (diamond), both splits.

    `found` is that of `workbook.data.objects.objects`. Beside each class stands how many are small, before → after.
    """
    classes = list(found["class"].value_counts().index)
    ax = ax or new_axes(8, 1.4 + 0.34 * max(len(classes), 1))
    for row, name in enumerate(classes):
        its = found[found["class"] == name]
        before, after = ((its[column] == "small").mean() * 100 for column in ("size", "size_resized"))
        ax.plot([before, after], [row, row], color=".6", linewidth=1.5, zorder=1)
        ax.scatter(before, row, marker="o", s=60, facecolor="white", edgecolor=COLORS[0], linewidth=1.6, zorder=2)
        ax.scatter(after, row, marker="D", s=26, color=COLORS[1], zorder=3)
        words = "; ".join(f"{split} {(part['size'] == 'small').sum()} → {(part['size_resized'] == 'small').sum()} of "
                          f"{len(part)}" for split in SPLITS for part in [its[its["split"] == split]])
        ax.text(103, row, words, va="center", fontsize=8.5)
    ax.set(yticks=range(len(classes)), yticklabels=classes, ylim=(max(len(classes), 1) - 0.4, -0.6), xlim=(-3, 101))
    ax.set_xlabel("small objects, area up to 32² pixels (% of the class)")
    ax.grid(visible=False, axis="y")
    into = "x".join(map(str, found.attrs["image_size"]))
    ax.set_title(f"Small objects per class, before → after the resize into {into} (n = {len(found)} objects)", pad=26)
    ax.legend(handles=[Line2D([], [], marker="o", linestyle="", markerfacecolor="white", markeredgecolor=COLORS[0],
                              label="in the original"),
                       Line2D([], [], marker="D", linestyle="", color=COLORS[1], markersize=5,
                              label="after the resize")],
              loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0)
    return ax


def sample_pictures(dataset: Dataset, *, split: str = "val", count: int = 6, seed: int = 0,
                    axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Photos of a split with their boxes; `seed` draws the photos, line style and colour tell the size of each object.

    Photos are shown as training reads them, EXIF orientation applied. A crowd's box is dotted and white.
    """
    content = read_coco(dataset.train_json if split == "train" else dataset.val_json)
    chosen = random.Random(seed).sample(content["images"], min(count, len(content["images"])))
    panels = list(axes) if axes is not None else new_grid(max(len(chosen), 1), 3, (3.7, 3.9))
    names = {category["id"]: category["name"] for category in content["categories"]}
    for ax, image in zip(panels, chosen, strict=False):
        photo = cv2.imread(str(image_path(dataset.images_dir, image["file_name"])), cv2.IMREAD_COLOR)  # as training, so turned too
        if photo is None:
            raise DataError(f"{image['file_name']} cannot be read: `workbook check {dataset.name}` says why")
        ax.imshow(photo[..., ::-1])
        its = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        for a in its:
            _draw(ax, a, names[a["category_id"]] if len(names) > 1 else "")
        ax.set_title(_caption(image["file_name"], its), fontsize=8.5)
        ax.set(xticks=[], yticks=[], xlim=(0, image["width"]), ylim=(image["height"], 0))
    handles = [Line2D([], [], color=color, linestyle=style, linewidth=1.8, label=size)
               for size, (color, style) in BOXES.items()]
    handles.append(Line2D([], [], color=".4", linestyle=CROWD[1], linewidth=1.8, label="crowd"))
    figure = panels[0].get_figure(root=True)
    assert figure is not None
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False)
    title = f"{len(chosen)} of the {len(content['images'])} {split} images of {dataset.name}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return panels


def _draw(ax: Axes, a: Annotation, name: str) -> None:
    x, y, width, height = a["bbox"]
    color, style = CROWD if is_crowd(a) else BOXES[sizes_of(a["area"])[0]]
    dark, light = (withStroke(linewidth=3, foreground=ground, alpha=0.6) for ground in ("black", "white"))
    ax.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=color, linestyle=style, linewidth=1.4,
                           path_effects=[dark if is_crowd(a) else light]))
    if name:
        ax.text(x, y, name, fontsize=6.5, color="white", va="bottom", clip_on=True, path_effects=[dark])


def _caption(name: str, its: list[Annotation]) -> str:
    objects = [a for a in its if not is_crowd(a)]
    small = sum(sizes_of(a["area"])[0] == "small" for a in objects)
    return f"{name if len(name) <= 40 else '…' + name[-39:]}\nn = {len(objects)}, {small} small"


def _size_borders(ax: Axes, areas: pd.Series) -> None:
    """Lines at 32 and 96 pixels, and over each size its share of all objects."""
    sizes = areas.map(lambda area: sizes_of(area)[0]).value_counts(normalize=True) * 100
    for border in BORDERS:
        ax.axvline(border, color=".25", linewidth=1, linestyle=":")
    for size, start, align in (("small", BORDERS[0] * 0.97, "right"), ("medium", np.sqrt(np.prod(BORDERS)), "center"),
                               ("large", BORDERS[1] * 1.03, "left")):
        ax.text(start, 1.01, f"{size} {sizes.get(size, 0):.0f}%", transform=ax.get_xaxis_transform(), ha=align,
                fontsize=8.5)
