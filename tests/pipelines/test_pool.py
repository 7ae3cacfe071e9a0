"""`prefect.yaml` holds the same deployment for a work pool; tried with one of type process and a real worker."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy import PROJECT, Api, Toy, wait_until


@pytest.mark.slow
def test_a_worker_of_a_process_pool_runs_the_deployment(toy: Toy, api: Api, server_env: dict[str, str]) -> None:
    shutil.copytree(PROJECT / "pipelines", toy.root / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "prefect.yaml", toy.root)
    env = toy.env(**server_env)
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [*prefect, *arguments], cwd=toy.root, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("work-pool", "create", "goulot", "--type", "process")
    call("deploy", "--all")
    worker = subprocess.Popen(
        [*prefect, "worker", "start", "--pool", "goulot", "--limit", "1"],
        cwd=Path(os.sep), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        (made,) = [
            deployment
            for deployment in api.call("/deployments/filter", {})
            if deployment["name"] == "goulot-pool" and deployment["entrypoint"].endswith(":compete")
        ]
        assert "overrides" in made["parameter_openapi_schema"]["properties"]
        assert made["schedules"] == []
        run = api.call(f"/deployments/{made['id']}/create_flow_run", {"parameters": {"targets": ["audit"]}})["id"]
        wait_until(lambda: api.run(run)["state_type"] in ("COMPLETED", "FAILED", "CRASHED"), 120, every=0.5)
        assert api.run(run)["state"]["message"] == "2 completed"
        assert toy.calls() == ["fetch", "audit"]
    finally:
        worker.terminate()
        worker.wait(40)
