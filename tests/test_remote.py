"""A DVC remote that speaks S3: what one checkout has computed, another one takes from there."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.conftest import ROOT
from tests.test_repro import Clone, _take

pytestmark = pytest.mark.slow

SECTIONS = ("fetch", "ingest", "augment", "extract", "audit", "split", "finetune", "blend")
LEARNERS = {"mlp": {"kind": "mlp", "epochs": 3, "members": 1, "hidden": 8}}
SUBMISSION = "data/submit/submission.csv"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a loopback server that speaks S3 and holds one bucket, `goulot`."""
    pytest.importorskip("dvc_s3", reason="the extra `s3` is not installed")
    moto = pytest.importorskip("moto.server", reason="the extra `dev` is not installed")
    boto3 = pytest.importorskip("boto3")
    served = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    served.start()
    url = "http://{}:{}".format(*served.get_host_and_port())
    known = {"aws_access_key_id": "t", "aws_secret_access_key": "t", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=url, **known).create_bucket(Bucket="goulot")
    yield url
    served.stop()


@pytest.fixture(scope="module")
def origin(server: str, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A checkout in which all has run and been pushed; its first commit has no dvc.lock, its last one has."""
    place = tmp_path_factory.mktemp("remote")
    competition = tiny.make(place / "competition")
    made = Clone(place / "origin")
    _take(ROOT, made.root)
    (made.root / "dvc.lock").unlink(missing_ok=True)
    settings = tiny.params(competition)
    made.change(lambda document: [document[section].update(settings[section]) for section in SECTIONS])
    made.change(lambda document: document["fetch"].update(watch=str(competition)))
    made.change(lambda document: document["learn"].update(learners=LEARNERS))
    made.environment |= {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_EC2_METADATA_DISABLED": "true"}
    made.call("git", "init", "-q")
    made.call("dvc", "remote", "add", "--default", "shared", "s3://goulot/cache")
    made.call("dvc", "remote", "modify", "shared", "endpointurl", server)
    _commit(made)
    assert len(made.repro()) == 12
    _commit(made)
    made.call("dvc", "push", "--run-cache")
    return made


def _commit(made: Clone) -> None:
    made.call("git", "add", "--all")
    made.call("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "a state")


def _another(origin: Clone, place: Path, revision: str = "HEAD") -> Clone:
    """A clone of a commit, with an empty cache and no state of the first one's."""
    made = Clone(place / "another")
    made.root.mkdir()
    made.environment = {**origin.environment, "GOULOT_ENGINES": str(place / "engines")}
    made.call("git", "clone", "-q", str(origin.root), ".")
    made.call("git", "checkout", "-q", revision)
    return made


def _same(origin: Clone, other: Clone) -> bool:
    return (other.root / SUBMISSION).read_bytes() == (origin.root / SUBMISSION).read_bytes()


@pytest.mark.parametrize("how", ["pull first", "repro --pull"])
def test_a_clone_computes_what_the_remote_has_or_ends_with_another_submission(
    origin: Clone, tmp_path: Path, how: str
) -> None:
    made = _another(origin, tmp_path)
    if how == "pull first":
        made.call("dvc", "pull")
        assert _same(origin, made)
    assert "Running stage" not in made.call("dvc", "repro", *(() if how == "pull first" else ("--pull",)))
    assert _same(origin, made)
    assert "up to date" in made.call("dvc", "status")
    assert "failed to load" not in made.call("dvc", "plots", "show", "-o", str(tmp_path / "plots"))
    assert not (made.root / ".goulot/store").exists(), "features were computed"


def test_the_run_cache_does_not_bring_back_what_no_lock_file_names(origin: Clone, tmp_path: Path) -> None:
    made = _another(origin, tmp_path, "HEAD~1")
    assert not (made.root / "dvc.lock").exists()
    made.call("dvc", "fetch", "--run-cache")
    said = made.call("dvc", "repro", "--pull")
    assert "Running stage" not in said
    assert len(set(re.findall(r"Stage '([^']+)' is cached", said))) == 12
    assert _same(origin, made)
    assert (made.root / "dvc.lock").read_bytes() == (origin.root / "dvc.lock").read_bytes()


def test_a_change_in_a_clone_computes_more_than_what_follows_it(origin: Clone, tmp_path: Path) -> None:
    made = _another(origin, tmp_path)
    made.change(lambda document: document["blend"].update(rounds=3))
    said = made.call("dvc", "repro", "--pull")
    ran = set(re.findall(r"Running stage '([^']+)'", said))
    assert "blend" in ran
    assert ran <= {"blend", "review", "submit", "report"}
