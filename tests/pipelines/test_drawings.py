"""What the pipeline declares as plots is seen on the page."""

import io
from pathlib import Path

import pytest
from PIL import Image
from toy import Toy

from pipelines import drawings, graph, publish
from pipelines.graph import Plot

TABLE = "x,y,label,guess\n0.5,1,cat,cat\n0.1,2,dog,cat\n0.9,,dog,dog\n"


@pytest.mark.parametrize(
    ("template", "x", "y"), [("linear", "x", "y"), ("scatter", "x", "y"), ("confusion", "label", "guess")]
)
def test_each_template_is_drawn(tmp_path: Path, template: str, x: str, y: str) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    made = drawings.drawn(Plot("A title", template, "t.csv", x, (y,)), tmp_path)
    assert made is not None
    with Image.open(io.BytesIO(made)) as image:
        assert image.size == (468, 324)
        assert len(image.convert("RGB").getcolors(100_000) or []) > 10
    assert len(made) < publish.PICTURE_BYTES


def test_a_plot_whose_table_is_not_there_or_has_no_such_column_is_left_out(tmp_path: Path) -> None:
    assert drawings.drawn(Plot("A", "linear", "t.csv", "x", ("y",)), tmp_path) is None
    (tmp_path / "t.csv").write_text(TABLE)
    assert drawings.drawn(Plot("A", "linear", "t.csv", "x", ("z",)), tmp_path) is None


def test_a_folder_of_tables_is_a_drawing_each_with_every_column(tmp_path: Path) -> None:
    (tmp_path / "curves").mkdir()
    for name in ("mlp", "finetune@lite0"):
        (tmp_path / f"curves/{name}.csv").write_text("epoch,training,out_of_fold\n1,0.7,0.8\n2,0.5,0.6\n")
    one = Plot("Losses", "linear", "curves", "epoch", ("training", "out_of_fold"))
    found = list(drawings.tables(one, tmp_path))
    assert [plot.title for plot in found] == ["Losses: finetune@lite0", "Losses: mlp"]
    single = drawings.drawn(Plot(found[0].title, "linear", found[0].table, "epoch", ("training",)), tmp_path)
    assert drawings.drawn(found[0], tmp_path) not in (None, single)


def test_a_large_picture_is_made_smaller_and_not_left_out() -> None:
    with io.BytesIO() as sink:
        Image.effect_noise((1500, 600), 80).save(sink, "PNG")
        large = sink.getvalue()
    assert len(large) > publish.PICTURE_BYTES
    shown = publish.picture("preview", large)
    assert shown.startswith("![preview](data:image/jpeg;base64,")
    with Image.open(io.BytesIO(drawings.reduced(large))) as image:
        assert image.size == (1000, 400)


def test_plots_are_read_as_dvc_spells_them(toy: Toy) -> None:
    pipeline = toy.root / "dvc.yaml"
    text = pipeline.read_text() + (
        "  - curve: {title: A curve, template: scatter, x: {data/blend/leaderboard.csv: score},"
        " y: {data/blend/leaderboard.csv: learner}}\n"
        "  - data/blend/leaderboard.csv: {x: learner, y: [score, rank]}\n"
    )
    pipeline.write_text(text)
    read = graph.read(toy.root)
    table = "data/blend/leaderboard.csv"
    assert read.plots == (
        Plot("A curve", "scatter", table, "score", ("learner",)),
        Plot(table, "linear", table, "learner", ("score", "rank")),
    )
    assert read.pictures == ("data/blend/curve.png",)


def test_numbers_have_the_digits_that_a_person_reads() -> None:
    assert [publish.short(value) for value in ("0.30412345", 0.30412345, 7, "svm", "1.x")] == [
        0.3041,
        0.3041,
        7,
        "svm",
        "1.x",
    ]
