"""Sources: the user's files stay as they are, a changed folder is noticed, no archive writes where it should not."""

import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from goulot import layout, sources
from goulot.errors import DataError, ParamsError
from goulot.sources import archive
from tests import kaggle_server, tiny
from tests.conftest import ROOT
from tests.test_repro import Clone, _take
from tests.tiny import Workspace


def _state(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p): (s.st_ino, s.st_mode, s.st_mtime_ns, p.read_bytes()) for p in files for s in [p.stat()]}


def test_the_users_folder_is_copied(workspace: Workspace) -> None:
    workspace.run("fetch")
    for path in layout.RAW.rglob("*.*"):
        assert path.is_symlink()
        assert path.resolve().is_relative_to(workspace.competition)


def test_a_folder_that_cannot_be_linked_is_not_brought(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    workspace.run("fetch", "ingest")
    assert not any(path.is_symlink() for path in layout.RAW.rglob("*"))


@pytest.mark.parametrize("fault", ["missing", "file", "around"])
def test_a_path_that_holds_no_competition_gives_a_traceback(
    fault: str, workspace: Workspace, refusal: Callable[..., str]
) -> None:
    place = {"missing": workspace.root / "no", "file": workspace.root / "a.txt", "around": workspace.root}[fault]
    (workspace.root / "a.txt").write_text("x")
    workspace.set("fetch.source", f"path:{place}")
    said = {"missing": "is not there", "file": "is neither a folder nor one of .zip", "around": "holds data/raw itself"}
    assert said[fault] in refusal("fetch")


def test_a_watch_that_sees_nothing_of_the_folder_is_taken(workspace: Workspace, refusal: Callable[..., str]) -> None:
    workspace.set("fetch.watch", "src/goulot/samples")
    line = refusal("fetch")
    assert f"set fetch.watch: {workspace.competition}" in line
    workspace.set("fetch.watch", str(workspace.competition))
    workspace.run("fetch")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose source is a folder of the user's, brought in by `goulot init` and `dvc repro`."""
    made = Clone(tmp_path_factory.mktemp("clone"))
    _take(ROOT, made.root)
    (made.root / "dvc.lock").unlink(missing_ok=True)
    made.call("git", "init", "-q")
    return made


def test_a_changed_folder_goes_unnoticed_or_dvc_changes_the_users_files(clone: Clone, tmp_path: Path) -> None:
    birds = tiny.make(tmp_path / "birds", train=12, test=6)
    before = _state(birds)
    made = clone.call("python", "-m", "goulot", "init", "--from", f"path:{birds}")
    assert "12 training images" in made
    repro = ("dvc", "repro", "ingest")
    assert "Running stage 'ingest'" in clone.call(*repro)
    assert "Running stage" not in clone.call(*repro)
    assert _state(birds) == before
    assert not (clone.root / "data/raw/train.csv").is_symlink() or os.access(birds / "train.csv", os.W_OK)
    shutil.copyfile(birds / "train/train001.png", birds / "train/train002.png")
    said = clone.call(*repro)
    assert "Running stage 'fetch'" in said
    assert "Running stage 'ingest'" in said
    assert (clone.root / "data/raw/train/train002.png").read_bytes() == (birds / "train/train001.png").read_bytes()
    assert before.keys() == _state(birds).keys()
    assert all(stat.S_IMODE(mode) & stat.S_IWUSR for _, mode, _, _ in _state(birds).values())


@pytest.mark.parametrize("form", ["zip", "tar", "gztar"])
def test_an_archive_is_not_what_its_folder_is(form: str, workspace: Workspace) -> None:
    packed = shutil.make_archive(str(workspace.root / "birds"), form, workspace.competition)
    workspace.run("fetch", "ingest")
    expected = (layout.MANIFEST.read_bytes(), layout.TARGET.read_bytes())
    workspace.set("fetch.source", f"path:{packed}")
    workspace.run("fetch", "ingest")
    assert (layout.MANIFEST.read_bytes(), layout.TARGET.read_bytes()) == expected


@pytest.mark.parametrize("inside", [True, False])
def test_an_archive_within_an_archive_stays_packed(inside: bool, workspace: Workspace, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    for part in ("train", "test"):
        source = workspace.competition if inside else workspace.competition / part
        shutil.make_archive(str(outer / part), "zip", source, part if inside else None)
    for table in workspace.competition.glob("*.csv"):
        shutil.copyfile(table, outer / table.name)
    before = _state(outer)
    workspace.set("fetch.source", f"path:{outer}")
    workspace.run("fetch", "ingest")
    assert _state(outer) == before
    assert not list(layout.RAW.glob("*.zip"))


def _zip(path: Path, entries: dict[str, bytes], *, links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, target)
    return path


def _tar(
    path: Path, entries: dict[str, bytes], *, links: dict[str, str] | None = None, kind: bytes = tarfile.SYMTYPE
) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            file.addfile(info)
    return path


UP = {"a/b/up": "../..", "x": "a/b/up/../secret"}  # of which each for itself ends inside
EVIL: dict[str, tuple[Callable[[Path], Path], str]] = {
    "zip dots": (lambda p: _zip(p / "a.zip", {"ok.txt": b"", "../out.txt": b"x"}), "leaves the folder"),
    "zip deep dots": (lambda p: _zip(p / "a.zip", {"a/b/../../../out.txt": b"x"}), "leaves the folder"),
    "zip absolute": (lambda p: _zip(p / "a.zip", {"/out.txt": b"x"}), "is no relative path"),
    "zip drive": (lambda p: _zip(p / "a.zip", {"C:/out.txt": b"x"}), "is no relative path"),
    "zip backslash": (lambda p: _zip(p / "a.zip", {"..\\out.txt": b"x"}), "is no relative path"),
    "zip link": (lambda p: _zip(p / "a.zip", {}, links={"x": "/etc/passwd"}), "points outside"),
    "zip link up": (lambda p: _zip(p / "a.zip", {}, links={"d/x": "../../y"}), "points outside"),
    "zip through link": (lambda p: _zip(p / "a.zip", {"x/../y": b"", "z": b""}), "leaves the folder"),
    "zip bomb": (lambda p: _zip(p / "a.zip", {f"{n}.bin": bytes(100 * 2**20) for n in range(3)}), "would unpack to"),
    "zip broken": (lambda p: _broken(_zip(p / "a.zip", {"a": b"x" * 999})), "cannot be unpacked"),
    "tar dots": (lambda p: _tar(p / "a.tar.gz", {"../out.txt": b"x"}), "leaves the folder"),
    "tar absolute": (lambda p: _tar(p / "a.tar.gz", {"/out.txt": b"x"}), "is no relative path"),
    "tar link": (lambda p: _tar(p / "a.tar.gz", {}, links={"x": "../y"}), "points outside"),
    "tar hard link": (lambda p: _tar(p / "a.tar.gz", {}, links={"d/x": "../y"}, kind=tarfile.LNKTYPE), "outside"),
    "tar link by a link": (lambda p: _tar(p / "a.tar.gz", {"a/b/c": b""}, links=UP), "points outside"),
    "zip link by a link": (lambda p: _zip(p / "a.zip", {"a/b/c": b""}, links=UP), "points outside"),
    "tar device": (lambda p: _tar(p / "a.tar.gz", {}, links={"x": ""}, kind=tarfile.CHRTYPE), "neither a file"),
    "tar bomb": (lambda p: _tar(p / "a.tar.gz", {"a.bin": bytes(300 * 2**20)}), "would unpack to"),
    "tar broken": (lambda p: _broken(_tar(p / "a.tar.gz", {"a": os.urandom(9999)})), "cannot be unpacked"),
}  # fmt: skip


def _broken(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("case", EVIL)
def test_an_archive_that_is_not_to_be_trusted_is_unpacked(case: str, tmp_path: Path) -> None:
    build, words = EVIL[case]
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    with pytest.raises(DataError, match=words) as error:
        archive.unpack(build(tmp_path), target)
    assert "\n" not in str(error.value)
    assert not [path for path in target.rglob("*") if path.is_file() and path.stat().st_size > 10000]
    assert {path.name for path in tmp_path.rglob("*")} <= {"a.zip", "a.tar.gz", "deep", "target", "a"}


def test_links_within_an_archive_are_refused(tmp_path: Path) -> None:
    links = {"b/x.txt": "../a/x.txt", "y.txt": "a/x.txt"}
    for path in (
        _zip(tmp_path / "a.zip", {"a/x.txt": b"x"}, links=links),
        _tar(tmp_path / "a.tgz", {"a/x.txt": b"x"}, links=links),
    ):
        target = tmp_path / f"of-{path.suffix[1:]}"
        target.mkdir()
        archive.unpack(path, target)
        assert [(target / name).read_bytes() for name in links] == [b"x", b"x"]


def test_a_file_is_written_through_a_link_of_the_archive(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar.gz", {}, links={"d": "real"})
    with tarfile.open(path, "w:gz") as file:
        link = tarfile.TarInfo("d")
        link.type, link.linkname = tarfile.SYMTYPE, "real"
        file.addfile(link)
        inner = tarfile.TarInfo("d/x.txt")
        inner.size = 1
        file.addfile(inner, io.BytesIO(b"x"))
    with pytest.raises(DataError, match="through a link"):
        archive.unpack(path, tmp_path)


def test_an_unknown_kind_of_source_is_not_refused() -> None:
    with pytest.raises(ParamsError, match=r"'s3:bucket'; allowed are sample:<name>, kaggle:<competition> or path:"):
        sources.parse("s3:bucket")


class Kaggle:
    """A stand-in for Kaggle's HTTP interface: one archive, sent in ranges, cut off when told to."""

    def __init__(self, data: bytes) -> None:
        self.data, self.url = data, ""
        self.refusal: tuple[int, str] | None = None
        self.cut_after: int | None = None
        self.down = False  # for whoever asks for the rest of a file
        self.ranges: list[str] = []


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    kaggle_server.package()
    folder = tiny.make(tmp_path / "birds", train=12, test=6)
    (folder / "notes.bin").write_bytes(os.urandom(3 * 2**20))  # the package writes in pieces of 1 MiB
    packed = Path(shutil.make_archive(str(tmp_path / "solar-cells"), "zip", folder))
    stand_in = Kaggle(packed.read_bytes())

    class Handler(kaggle_server.Answers, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if stand_in.refusal:
                status, message = stand_in.refusal
                self.send_json(status, {"code": status, "message": message})
                return
            self.send_response(302)
            self.send_header("Location", f"{stand_in.url}/files/archive.zip?signature=x")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            start = 0
            if (asked := self.headers.get("Range")) and stand_in.down:
                self.close_connection = True
                return
            if asked:
                stand_in.ranges.append(asked)
                start = int(asked.removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            rest = stand_in.data[start:]
            for name, value in {
                "Content-Type": "application/zip", "Content-Length": str(len(rest)), "Accept-Ranges": "bytes",
                "ETag": '"one"', "Last-Modified": "Tue, 03 Nov 2026 10:00:00 GMT",
            }.items():  # fmt: skip
                self.send_header(name, value)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(stand_in.data) - 1}/{len(stand_in.data)}")
            self.end_headers()
            if stand_in.cut_after is not None:
                rest, stand_in.cut_after = rest[: stand_in.cut_after], None
            self.wfile.write(rest)

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    monkeypatch.setenv("KAGGLE_USERNAME", "toy")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    with kaggle_server.serving(Handler, monkeypatch) as stand_in.url:
        yield stand_in


@pytest.fixture
def from_kaggle(kaggle: Kaggle, workspace: Workspace) -> Workspace:
    workspace.set("fetch.source", "kaggle:solar-cells")
    return workspace


def test_a_competition_on_kaggle_is_not_downloaded_and_unpacked(from_kaggle: Workspace, kaggle: Kaggle) -> None:
    from_kaggle.run("fetch", "ingest")
    assert (layout.RAW / "train.csv").is_file()
    assert (layout.downloads("solar-cells") / "solar-cells.zip").read_bytes() == kaggle.data


def test_a_download_that_was_cut_off_starts_anew(from_kaggle: Workspace, kaggle: Kaggle) -> None:
    kaggle.cut_after = 5 * 2**19
    from_kaggle.run("fetch")
    (asked,) = kaggle.ranges
    assert int(asked.removeprefix("bytes=").removesuffix("-")) >= 2**21
    assert (layout.RAW / "train.csv").is_file()


def test_a_later_run_brings_again_what_an_earlier_one_had(
    from_kaggle: Workspace, kaggle: Kaggle, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the package's own attempts
    kaggle.cut_after, kaggle.down = 5 * 2**19, True
    assert "Kaggle cannot be reached" in refusal("fetch")
    kaggle.down = False
    from_kaggle.run("fetch")
    assert int(kaggle.ranges[-1].removeprefix("bytes=").removesuffix("-")) >= 2**21
    assert (layout.downloads("solar-cells") / "solar-cells.zip").read_bytes() == kaggle.data


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (401, "Unauthenticated", "does not accept the credentials (Unauthenticated); create a token"),
        (403, "You must accept the rules", "accept the competition's rules on its page first (https://www.kaggle.com"),
        (404, "Not found", "Kaggle knows no competition 'solar-cells'"),
        (429, "Too many requests", "solar-cells refused the download (429): Too many requests"),
    ],
)  # fmt: skip
def test_a_refused_download_gives_no_reason_or_no_fix(
    status: int, said: str, told: str, from_kaggle: Workspace, kaggle: Kaggle, refusal: Callable[..., str]
) -> None:
    kaggle.refusal = (status, said)
    assert told in refusal("fetch")


def test_missing_credentials_give_a_traceback(
    from_kaggle: Workspace, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    assert "no Kaggle credentials" in refusal("fetch")
