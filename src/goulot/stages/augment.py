"""`goulot augment`: the view plan, which says what each augmented view of each image is."""

import logging

import pandas as pd
from pydantic import Field, field_validator

from goulot import augmentation, layout, pictures
from goulot.artifacts import read_table, write_table
from goulot.images import Shards
from goulot.params import Section

log = logging.getLogger("goulot")


class Params(Section):
    """How many views of each image, and what they may do."""

    policy: str = Field(
        "dihedral", description="what a view may do", json_schema_extra={"enum": [*augmentation.POLICIES]}
    )
    views: int = Field(3, ge=0, le=64, description="views of each image beside the image itself")
    seed: int = Field(0, ge=0)
    preview: int = Field(6, ge=1, le=24, description="images in the preview picture")

    @field_validator("policy")
    @classmethod
    def _known_policy(cls, name: str) -> str:
        augmentation.find_policy(name)
        return name


def run(params: Params) -> None:
    """Write the plan and a picture of its first rows."""
    manifest = read_table(layout.MANIFEST)
    plan = augmentation.table(
        manifest["image_id"].tolist(), manifest["sha256"].tolist(), augmentation.find_policy(params.policy),
        views=params.views, seed=params.seed,
    )  # fmt: skip
    write_table(layout.VIEWS, plan)
    _preview(manifest, plan, params.preview)
    log.info("planned %s views of %s images, policy %s", f"{len(plan):,}", f"{len(manifest):,}", params.policy)


def _preview(manifest: pd.DataFrame, plan: pd.DataFrame, count: int) -> None:
    shards = Shards(layout.SHARDS, manifest)
    rows = []
    for image in manifest.sample(min(count, len(manifest)), random_state=0).itertuples():
        picture = shards.decode(str(image.shard), int(str(image.row)), str(image.image_id))
        views = augmentation.views_of(plan[plan["image_id"] == image.image_id])[:8]
        rows.append([(augmentation.show(picture, view), f"{image.id} view {n}") for n, view in enumerate(views)])
    pictures.sheet(rows, layout.PREVIEW)
