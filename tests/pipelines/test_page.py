"""The page, driven as a person drives it: a run is started with a click, watched, and cancelled."""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy as toys
from conftest import free_port
from toy import STAGES, Api, Toy, alive, wait_until

from pipelines import session

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Page:
    """What `python -m pipelines.serve` has set up."""

    def __init__(self, toy: Toy, api: Api, url: str) -> None:
        self.toy, self.api, self.url = toy, api, url

    def deployment(self, flow: str = "compete") -> dict[str, Any]:
        found = self.api.call("/deployments/filter", {"flows": {"name": {"any_": [flow]}}})
        (one,) = [deployment for deployment in found if deployment["name"] == "goulot"]
        return one

    def start(self, **parameters: Any) -> str:
        """Start a run as the page's button does."""
        made = self.api.call(f"/deployments/{self.deployment()['id']}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def cancel(self, run: str) -> None:
        self.api.call(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def end(self, run: str, seconds: float = 90) -> dict[str, Any]:
        wait_until(lambda: self.api.run(run)["state_type"] in FINAL, seconds, every=0.3)
        return self.api.run(run)


@pytest.fixture(scope="module")
def page(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A served toy repository with a server of its own, as a newcomer has it."""
    place = tmp_path_factory.mktemp("served")
    shutil.copytree(template, place / "toy", symlinks=True)
    (place / "control").mkdir()
    toy = Toy(place / "toy", place / "control")
    toy.dvc("repro")
    toys.commit(toy, "ran")
    port = free_port()
    with (place / "serve.log").open("w") as log:
        served = subprocess.Popen(
            [sys.executable, "-m", "pipelines.serve", "--port", str(port)],
            cwd=toy.root, env=toy.env(PREFECT_HOME=str(place / "home")), stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    made = Page(toy, Api(f"{url}/api"), url)
    wait_until(lambda: "The page: " in (place / "serve.log").read_text(), 90, every=0.5)
    wait_until(lambda: bool(made.api.call("/deployments/filter", {})), 30, every=0.5)
    yield made
    tree = [child.pid for child in toys.psutil.Process(served.pid).children(recursive=True)]
    served.terminate()
    served.wait(30)
    wait_until(lambda: not alive(tree), 15)


@pytest.fixture
def calm(page: Page) -> Page:
    """The page, with stages that behave and data that is up to date."""
    for order in [*STAGES, *(f"{stage}.tree" for stage in STAGES)]:
        (page.toy.control / order).unlink(missing_ok=True)
    page.toy.forget_calls()
    return page


def test_the_form_offers_the_stages_of_this_checkout(calm: Page) -> None:
    whole = calm.deployment()["parameter_openapi_schema"]
    schema = whole["properties"]
    assert schema["targets"]["items"]["enum"][:3] == ["fetch", "augment", "extract"]
    assert "extract@a" in schema["targets"]["items"]["enum"]
    form = whole["definitions"][schema["overrides"]["$ref"].rpartition("/")[2]]
    assert list(form["properties"])[:2] == ["augment", "extract"]  # as params.yaml has them


def test_a_run_with_nothing_to_do_takes_six_seconds_at_most(calm: Page) -> None:
    calm.end(calm.start())
    took: list[float] = []
    allowed = 6 * max(1.0, os.getloadavg()[0] / session.cores())  # whatever else runs on the machine counts as well
    while len(took) < 3 and not (took and took[-1] < allowed):
        run = calm.end(calm.start())
        assert run["state"]["message"] == "8 skipped"
        begun, ended = (toys.when(run[name]) for name in ("created", "end_time"))
        took.append(ended - begun)
    assert min(took) < allowed


def test_a_value_out_of_bounds_is_refused_by_the_server_with_the_reason(calm: Page) -> None:
    with pytest.raises(AssertionError, match="99 is greater than the maximum of 64"):
        calm.start(overrides={"augment": {"views": 99}})
    with pytest.raises(AssertionError, match="'wild' is not one of \\['flip', 'dihedral', 'light', 'strong'\\]"):
        calm.start(overrides={"augment": {"policy": "wild"}})
    run = calm.end(calm.start(overrides={"augment": {"seed": None}}))
    assert run["state_type"] == "FAILED"
    assert "augment.seed is None" in run["state"]["message"]
    assert calm.toy.calls() == []


@pytest.mark.parametrize("overrides", [
    pytest.param({}, id="in place"),
    pytest.param({"augment": {"views": 9}}, id="in a workspace", marks=pytest.mark.slow),
])  # fmt: skip
def test_cancelling_ends_the_stage_and_the_next_run_goes_on(calm: Page, overrides: dict[str, Any]) -> None:
    calm.toy.order("audit" if not overrides else "augment", "tree")
    stage = "audit" if not overrides else "augment"
    run = calm.start(overrides=overrides, force=not overrides, side_by_side=1)
    pids = calm.toy.tree(stage)
    calm.cancel(run)
    assert wait_until(lambda: not alive(pids), 8) < 5
    assert calm.end(run, 30)["state_name"] == "Cancelled"
    (calm.toy.control / stage).unlink()
    calm.toy.forget_calls()
    assert calm.end(calm.start(overrides=overrides))["state_type"] == "COMPLETED"
    if not overrides:
        assert "fetch" not in calm.toy.calls()
    assert "Data and pipelines are up to date" in calm.toy.dvc("status")
    workspaces = calm.toy.root / ".goulot/workspaces"
    assert not workspaces.exists() or list(workspaces.iterdir()) == []


def test_killing_the_runs_process_ends_the_stage_and_the_page_says_so(calm: Page) -> None:
    calm.toy.order("fetch", "tree")
    run = calm.start(force=True)
    pids = calm.toy.tree("fetch")
    flow = next(parent for parent in toys.psutil.Process(pids[0]).parents() if "prefect" in " ".join(parent.cmdline()))
    flow.kill()
    assert wait_until(lambda: not alive(pids), 8) < 5
    assert calm.end(run, 40)["state_type"] == "CRASHED"
    (calm.toy.control / "fetch").unlink()
    assert calm.end(calm.start())["state_type"] == "COMPLETED"


def test_links_open_and_nothing_else_of_the_checkout_is_served(calm: Page) -> None:
    run = calm.start()
    calm.end(run)
    link = calm.api.artifacts(run)["report"]["data"]
    address = link.partition("(")[2].rstrip(")")
    assert b"The report" in urllib.request.urlopen(address, timeout=5).read()
    base = address.rpartition("/data/")[0]
    for path in (
        "/params.yaml",
        "/data/submit/../../params.yaml",
        "/.git/config",
        "/data/submit/%2e%2e/%2e%2e/dvc.yaml",
    ):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(base + path, timeout=5)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "evil.example"}), timeout=5)


@pytest.mark.browser
@pytest.mark.slow
def test_a_person_fills_in_the_form_and_sees_the_result(calm: Page, chromium: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    shots = Path(os.environ.get("GOULOT_SCREENSHOTS", tmp_path / "screenshots"))
    shots.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        view = browser.new_page(viewport={"width": 1280, "height": 900})

        def shot(name: str) -> None:
            view.wait_for_timeout(1000)
            view.screenshot(path=shots / f"prefect-{name}.png")

        view.goto(f"{calm.url}/deployments")
        expect(view.get_by_text("compete").first).to_be_visible(timeout=30_000)
        shot("deployments")
        view.goto(f"{calm.url}/deployments/deployment/{calm.deployment()['id']}/run")
        views = view.get_by_text("views of each image beside the image itself (at least 0, at most 64)")
        expect(views).to_be_visible(timeout=30_000)
        box = views.locator("xpath=following::input[1]")
        box.fill("7")
        box.scroll_into_view_if_needed()
        shot("form")
        view.get_by_role("button", name="Submit").click()
        view.wait_for_url(lambda url: not url.partition("?")[0].endswith("/run"), timeout=30_000)
        shot("submitted")
        run = toys.wait_for(lambda: _newest(calm.api, "views", 7), 30)
        assert calm.end(run, 120)["state_type"] == "COMPLETED"
        view.goto(f"{calm.url}/runs/flow-run/{run}")
        expect(view.get_by_text("Completed").first).to_be_visible(timeout=30_000)
        view.wait_for_timeout(3000)
        shot("run")
        view.get_by_role("tab", name="Artifacts").or_(view.get_by_text("Artifacts", exact=True)).last.click()
        expect(view.get_by_text("leaderboard").first).to_be_visible(timeout=30_000)
        shot("artifacts")
        for key in ("summary", "plots", "leaderboard"):
            view.goto(f"{calm.url}/artifacts/artifact/{calm.api.artifacts(run)[key]['id']}")
            view.wait_for_timeout(1500)
            shot(key)
        view.goto(f"{calm.url}/artifacts/artifact/{calm.api.artifacts(run)['summary']['id']}")
        expect(view.get_by_role("cell", name="000")).to_be_visible(timeout=30_000)
        browser.close()
    kept = calm.toy.root / "runs" / calm.api.run(run)["name"]
    assert (kept / "submission.csv").exists()
    # Boxes and switches that nobody touched are no overrides.
    assert json.loads((kept / "run.json").read_text())["overrides"] == {"augment": {"views": 7}}


def _newest(api: Api, field: str, value: int) -> str | None:
    run = api.last_run()
    given = run["parameters"].get("overrides", {}).get("augment", {})
    return str(run["id"]) if given.get(field) == value else None
