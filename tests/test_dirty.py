"""Dirty data: every fault has the outcome that docs/data.md names; garbage is never a traceback or a silent skip."""

import io
import json
import os
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from goulot import images, layout, tables
from goulot.artifacts import read_json, read_table
from goulot.errors import DataError
from tests.tiny import Workspace


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


RED = Image.new("RGB", (40, 30), (200, 30, 30))
EXIF = Image.Exif()
EXIF[0x0112] = 6
GOOD = {
    "wrong suffix": _encoded(RED, "JPEG"),
    "animated": _encoded(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 30))]),
    "cmyk": _encoded(RED.convert("CMYK"), "JPEG"),
    "16-bit": _encoded(Image.new("I;16", (40, 30), 40000), "PNG"),
    "1x1": _encoded(Image.new("RGB", (1, 1)), "PNG"),
    "rotated": _encoded(RED, "JPEG", exif=EXIF),
}
BAD = {
    "truncated": (_encoded(RED, "PNG")[:60], "damaged"),
    "zero bytes": (b"", "empty file"),
    "no image": (b"<html>404</html>", "not an image"),
    "bomb": (_encoded(Image.new("1", (10000, 10000)), "PNG"), "more than"),
}


@pytest.mark.parametrize("case", GOOD)
def test_an_odd_image_is_set_aside(case: str, workspace: Workspace) -> None:
    (workspace.competition / "train/train000.png").write_bytes(GOOD[case])
    workspace.run("fetch", "ingest")
    manifest = read_table(layout.MANIFEST)
    assert len(manifest) == 80
    row = manifest[manifest["id"] == "train000"].iloc[0]
    decoded = images.Shards(layout.SHARDS, manifest).decode(row["shard"], int(row["row"]), row["image_id"])
    assert decoded.mode == "RGB"
    assert decoded.size == {"rotated": (30, 40), "1x1": (1, 1)}.get(case, (40, 30))


@pytest.mark.parametrize("case", BAD)
def test_a_bad_image_is_used_or_vanishes(case: str, workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    data, words = BAD[case]
    (workspace.competition / "train/train000.png").write_bytes(data)
    workspace.run("fetch", "ingest")
    aside = read_table(layout.QUARANTINE)
    assert aside["id"].tolist() == ["train000"]
    assert words in aside["reason"][0]
    assert read_json(layout.metrics(layout.INGEST))["quarantined"] == 1
    assert "set aside 1" in caplog.text


def test_an_image_that_no_table_names_goes_unsaid(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    RED.save(workspace.competition / "train/stray.png")
    workspace.run("fetch", "ingest")
    aside = read_table(layout.QUARANTINE)
    assert aside[["file", "reason"]].to_numpy().tolist() == [["train/stray.png", "no table names it"]]
    numbers = read_json(layout.metrics(layout.INGEST))
    assert (numbers["quarantined"], numbers["unlisted"]) == (0, 1)
    assert "no table names it" in caplog.text


NAMES = ("ein Bild", "line\nbreak", "größe", unicodedata.normalize("NFD", "größe2"), "日本", "a,b;c\t'd\"", ".dot")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_of_odd_letters_is_not_found(name: str, form: str, workspace: Workspace) -> None:
    (workspace.competition / "train/train000.png").rename(
        workspace.competition / f"train/{unicodedata.normalize('NFC', name)}.png"
    )
    table = pd.read_csv(workspace.competition / "train.csv")
    table.loc[0, "id"] = unicodedata.normalize(form, name)
    table.to_csv(workspace.competition / "train.csv", index=False)
    workspace.run("fetch", "ingest")
    assert len(read_table(layout.MANIFEST)) == 80


def test_a_name_that_is_no_text_gives_a_traceback(workspace: Workspace) -> None:
    place = os.fsencode(workspace.competition / "train") + b"/\xff.png"
    try:
        RED.save(io.BytesIO(), "PNG")
        with open(place, "wb") as file:
            file.write(_encoded(RED, "PNG"))
    except OSError:
        pytest.skip("this file system has no such names")
    workspace.run("fetch", "ingest")
    assert read_table(layout.QUARANTINE)["reason"].tolist() == ["its name is not UTF-8"]


@pytest.mark.parametrize("blank", ["", "NaN", "  ", "nan"])
def test_a_row_without_a_label_is_learnt_or_lost(blank: str, workspace: Workspace, refusal: Callable[..., str]) -> None:
    lines = (workspace.competition / "train.csv").read_text().splitlines()
    lines[5] = lines[5].partition(",")[0] + "," + blank
    (workspace.competition / "train.csv").write_text("\n".join(lines))
    workspace.run("fetch")
    assert "train.csv line 6: 'label' is empty (1 such rows)" in refusal("ingest")
    workspace.set("ingest.unlabelled", "quarantine")
    workspace.run("ingest")
    assert read_table(layout.QUARANTINE)["reason"].tolist() == ["it has no label"]


def test_an_id_of_two_labels_is_taken_once(workspace: Workspace, refusal: Callable[..., str]) -> None:
    with (workspace.competition / "train.csv").open("a") as file:
        file.write("train000,spotted\n")
    workspace.run("fetch")
    line = refusal("ingest")
    assert (
        "train.csv line 62: id 'train000' occurs twice with label 'good' and 'spotted', first at train.csv line 2"
        in line
    )


def test_a_class_of_one_image_stops_the_run(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    table = pd.read_csv(workspace.competition / "train.csv")
    table.loc[0, "label"] = "odd"
    table.to_csv(workspace.competition / "train.csv", index=False)
    workspace.run("fetch", "ingest", "augment", "extract tiny", "audit", "split")
    assert "1 classes have a single image, first odd" in caplog.text


TEXTS = {
    "bom": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "crlf": lambda text: text.replace("\n", "\r\n").encode(),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "blank lines": lambda text: text.replace("\n", "\n\n").encode(),
    "quotes": lambda text: "\n".join(",".join(f'"{c}"' for c in row.split(",")) for row in text.splitlines()).encode(),
    "blanks": lambda text: text.replace(",", ", ").encode(),
}


@pytest.mark.parametrize("form", TEXTS)
def test_a_table_of_another_form_is_read_otherwise(form: str, workspace: Workspace) -> None:
    workspace.run("fetch", "ingest")
    expected = layout.MANIFEST.read_bytes()
    path = workspace.competition / "train.csv"
    path.write_bytes(TEXTS[form](path.read_text()))
    workspace.run("fetch", "ingest")
    assert layout.MANIFEST.read_bytes() == expected


@pytest.mark.parametrize(("text", "words"), [
    (b"id,label\na,1\nb\n", "line 3 has 1 cells, the header 2"),
    (b"id,label\na,1,2\n", "line 2 has 3 cells, the header 2"),
    (b"id,label\na,\xff\n", "line 2 holds a byte that is not UTF-8 (0xff)"),
    (b"id,id\na,b\n", "two columns 'id'"),
    (b"", "it is empty"),
    (b'id,label\n"a,1\n', "line"),
])  # fmt: skip
def test_a_broken_table_does_not_say_where(text: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(DataError) as error:
        tables.read(tmp_path, "t.csv")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def _reads_or_says_why(folder: Path, name: str) -> None:
    """A table is text all over, or one line says what is wrong with it."""
    try:
        table = tables.read(folder, name)
    except DataError as error:
        said = str(error)
    else:
        said = ""
        assert all(isinstance(cell, str) for cell in table.rows.to_numpy().ravel())
    assert "\n" not in said


@FUZZ
@given(
    data=st.binary(max_size=300), name=st.sampled_from(["t.csv", "t.tsv", "t.json", "t.jsonl", "t.parquet", "t.txt"])
)
def test_garbage_for_a_table_gives_a_traceback(data: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    _reads_or_says_why(tmp_path, name)


@FUZZ
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | CELL,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(CELL, inner, max_size=4),
    )
)
def test_any_json_gives_a_traceback(value: object, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(value))
    _reads_or_says_why(tmp_path, "t.json")


@FUZZ
@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=8))
def test_a_row_of_a_table_is_skipped_or_changed(rows: list[list[str]], tmp_path: Path) -> None:
    quoted = ["id,label", *(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)]
    (tmp_path / "t.csv").write_bytes("\n".join(quoted).encode())
    assert tables.read(tmp_path, "t.csv").rows.to_numpy().tolist() == rows


@FUZZ
@given(data=st.binary(max_size=200), form=st.sampled_from(["", "PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]),
       seed=st.integers(0, 2**16))  # fmt: skip
def test_garbage_for_an_image_gives_a_traceback(data: bytes, form: str, seed: int, tmp_path: Path) -> None:
    if form:  # a real image with bytes overwritten
        dice = random.Random(seed)
        whole = bytearray(_encoded(RED, form))
        for letter in data[:20]:
            whole[dice.randrange(len(whole))] = letter
        data = bytes(whole)
    path = tmp_path / "x.png"
    path.write_bytes(data)
    checked = images.check(path)
    assert bool(checked.reason) != bool(checked.sha256)
    assert "\n" not in checked.reason
    if not checked.reason:
        assert images.decode(data).mode == "RGB"


@pytest.mark.parametrize("name", ["train.csv", "test.csv", "sample_submission.csv"])
def test_a_table_with_only_its_header_gives_a_traceback_or_is_taken(
    name: str, workspace: Workspace, refusal: Callable[..., str]
) -> None:
    path = workspace.competition / name
    path.write_text(path.read_text().partition("\n")[0] + "\n")
    workspace.run("fetch")
    assert f"{name} has a header but no rows" in refusal("ingest")


def test_several_images_of_an_id_are_taken_for_one_or_the_fix_is_not_named(
    workspace: Workspace, refusal: Callable[..., str]
) -> None:
    train = workspace.competition / "train"
    for number in (1, 2):
        RED.save(train / f"train000_{number}.png")
    workspace.run("fetch")
    workspace.set("ingest.train.image", "train/{id}_*.png")
    line = refusal("ingest")
    assert "fits both train/train000_1.png and train/train000_2.png; an id is one image" in line
    assert "name a `group`" in line
