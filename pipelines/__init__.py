"""Prefect flows that read `dvc.yaml` and drive it; the only package that knows Prefect.

Importing it turns the usage reports of Prefect and DVC off, before either is imported.
"""

import os

for _name, _value in {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
}.items():
    os.environ.setdefault(_name, _value)
