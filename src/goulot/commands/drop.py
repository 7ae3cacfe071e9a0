"""`goulot drop`: leave training images out of the next run.

A person decides it, and `params.yaml` says it. Were `review` to do it by itself, what is learned from would depend on
what was learned: a cycle, and scores over only those rows that the blend agrees with.
"""

from collections.abc import Sequence

import pandas as pd
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from goulot import layout
from goulot.artifacts import read_table
from goulot.commands.editing import edited
from goulot.errors import ArtifactError, ParamsError, choices


def run(ids: Sequence[str], *, doubted: bool) -> str:
    """Add ids to `ingest.drop`; return what to say. Raises ParamsError for one that is no training image's."""
    if not ids and not doubted:
        raise ParamsError("nothing to drop; name ids, or --doubted for all that goulot review doubts")
    wanted = [*ids, *(_doubted() if doubted else ())]
    with edited() as document:
        ingest = document.get("ingest")
        if not isinstance(ingest, CommentedMap):
            raise ParamsError("params.yaml: ingest must hold settings")
        before = list(ingest.get("drop") or [])
        _refuse_unknown([name for name in wanted if name not in before])
        after = list(dict.fromkeys([*before, *wanted]))
        ingest["drop"] = _flow(after)
    return f"ingest.drop leaves {len(after):,} training images out ({len(after) - len(before):,} more); next: dvc repro"


def _doubted() -> list[str]:
    if not layout.DOUBTS.is_file():
        raise ArtifactError(f"{layout.DOUBTS} is missing; dvc repro review")
    return pd.read_csv(layout.DOUBTS, dtype=str, keep_default_na=False)["image_id"].to_list()


def _refuse_unknown(ids: Sequence[str]) -> None:
    manifest = read_table(layout.MANIFEST)
    known = set(manifest.loc[manifest["split"] == "train", "image_id"])
    for name in ids:
        if name not in known:
            raise ParamsError(choices("training image", name, sorted(known)[:3], "there are for example"))


def _flow(ids: Sequence[str]) -> CommentedSeq:
    made = CommentedSeq(ids)
    made.fa.set_flow_style()
    return made
