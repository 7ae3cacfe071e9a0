"""Sections: duplicates and leaks, and labels in doubt."""

import shlex

import pandas as pd

from goulot import layout
from goulot.artifacts import read_json, read_table
from goulot.reporting import charts
from goulot.reporting.page import Block, Chart, Listing, Picture, Section, Table


def duplicates(rows: int) -> Section:
    """The pairs that count as one image, those of different labels and those across the sets, and the threshold."""
    pairs, likeness = read_table(layout.PAIRS), pd.read_csv(layout.LIKENESS)
    least = read_json(layout.metrics(layout.AUDIT))["least_likeness"]
    lines = [
        f"{len(pairs):,} pairs of images count as one image each: laid on each other, in any pose, their likeness is "
        f"{least:.4f} or more. No fold parts them."
    ]
    blocks: list[Block] = []
    for path, what in ((layout.CONFLICTS, "Duplicates of different labels"), (layout.TWINS, "Test images in training")):
        text = dict.fromkeys(("a", "b", "label_a", "label_b", "test", "train", "label"), str)
        found = pd.read_csv(path, dtype=text, keep_default_na=False)
        if len(found):
            caption = f"{what}: {min(rows, len(found))} of {len(found):,} ({path})"
            blocks.append(Table.of(caption, found.head(rows)))
    caption = "Likeness of planted copies and of candidate pairs; duplicates are to the right"
    blocks.append(Chart(caption, charts.likeness(likeness, least)))
    if len(pairs):
        blocks.append(
            Picture.of("Pairs of images that count as one, from the nearest to the furthest", layout.CONTACT_SHEET)
        )
    return Section("Duplicates", lines, blocks)


def labels(rows: int) -> Section:
    """The training labels that the out-of-fold predictions doubt."""
    text = dict.fromkeys(("image_id", "file", "name", "given", "suggested"), str)
    found = pd.read_csv(layout.DOUBTS, dtype=text, keep_default_na=False)
    images = read_json(layout.metrics(layout.REVIEW))["images_doubted"]
    lines = [f"The out-of-fold predictions doubt labels of {images:,} training images. Nothing was left out for it."]
    if not images:
        return Section("Labels in doubt", lines, [])
    return Section("Labels in doubt", lines, [
        Table.of(f"The most doubtful ({layout.DOUBTS})", found.head(rows)),
        Picture.of("What was given, and what is suggested", layout.DOUBTS_SHEET),
        Listing("To leave images out of the next run: some, or all that are doubted", [], [
            f"goulot drop {shlex.quote(found['image_id'].iloc[0])}", "goulot drop --doubted",
        ]),
    ])  # fmt: skip
