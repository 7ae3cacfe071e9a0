"""Where every file lives. Paths are relative to the repository's root, in which each stage runs."""

import os
from pathlib import Path

from platformdirs import user_state_path

PARAMS = Path("params.yaml")
DATA = Path("data")

RAW = DATA / "raw"
INGEST = DATA / "ingest"
AUGMENT = DATA / "augment"
EXTRACT = DATA / "extract"
AUDIT = DATA / "audit"
SPLIT = DATA / "split"
RANK = DATA / "rank"
LEARN = DATA / "learn"
FINETUNE = DATA / "finetune"
PRUNE = DATA / "prune"
BLEND = DATA / "blend"
REVIEW = DATA / "review"
SUBMIT = DATA / "submit"
REPORT = DATA / "report"

MANIFEST = INGEST / "manifest.parquet"
QUARANTINE = INGEST / "quarantine.parquet"
TARGET = INGEST / "target.json"
EXTRA = INGEST / "extra.parquet"
COLUMNS = INGEST / "columns.parquet"
SAMPLE_SUBMISSION = INGEST / "sample_submission.csv"
SHARDS = INGEST / "shards"
VIEWS = AUGMENT / "views.parquet"
PREVIEW = AUGMENT / "preview.png"
GROUPS = AUDIT / "groups.parquet"
PAIRS = AUDIT / "pairs.parquet"
CONFLICTS = AUDIT / "conflicts.csv"
TWINS = AUDIT / "twins.csv"
LIKENESS = AUDIT / "likeness.csv"
CONTACT_SHEET = AUDIT / "pairs.png"
FOLDS = SPLIT / "folds.parquet"
RANKING = RANK / "ranking.csv"
CHOICE = RANK / "choice.json"
LEADERBOARD = BLEND / "leaderboard.csv"
BLEND_WEIGHTS = BLEND / "weights.json"
BLEND_RULE = BLEND / "rule.json"
BLEND_LABELS = BLEND / "labels.csv"
CONFUSION = BLEND / "confusion.csv"
BLEND_OOF = BLEND / "oof.parquet"
BLEND_TEST = BLEND / "test.parquet"
DOUBTS = REVIEW / "doubts.csv"
DOUBTS_SHEET = REVIEW / "doubts.png"
SUBMISSION = SUBMIT / "submission.csv"
REPORT_PAGE = REPORT / "index.html"
CURVES = REPORT / "curves"

# Run-time state that is no output of any stage: the feature store and the times of the last runs.
STATE = Path(".goulot")


def store() -> Path:
    """The content-addressed feature store; `GOULOT_STORE` lets isolated workspaces share one."""
    return Path(os.environ.get("GOULOT_STORE") or STATE / "store")


def engines() -> Path:
    """How each network is run on this machine, settled once for all checkouts; `GOULOT_ENGINES` moves it."""
    return Path(os.environ.get("GOULOT_ENGINES") or user_state_path("goulot") / "engines")


def downloads(competition: str) -> Path:
    """Where a competition's archive is kept, so that a new run need not bring it again."""
    return STATE / "downloads" / competition


def times(stage: str) -> Path:
    """How long the stage took when it last ran, for people only: no stage's result depends on it."""
    return STATE / "times" / f"{stage}.json"


def features(backbone: str) -> Path:
    """The folder of one backbone's features."""
    return EXTRACT / backbone


def learned(learner: str) -> Path:
    """The folder of one learner's out-of-fold and test predictions."""
    return LEARN / learner


def finetuned(network: str) -> Path:
    """The folder of one fine-tuned network's out-of-fold and test predictions."""
    return FINETUNE / network


def attention(network: str) -> Path:
    """Where a fine-tuned network found what it predicts of each training image, if it can tell."""
    return finetuned(network) / "attention.parquet"


def pruned(network: str) -> Path:
    """The folder of one pruned network and its numbers."""
    return PRUNE / network


def pruned_weights(network: str) -> Path:
    """A pruned network, as `file:` weights of `extract`; not there where the original was kept."""
    return pruned(network) / "network.safetensors"


def speed(stage: str) -> Path:
    """How many images a second networks took in a stage, `extract@...` or `prune@...`, for people only."""
    return STATE / "times" / f"speed of {stage}.json"


def checkpoints(network: str) -> Path:
    """Where a network's training is kept as far as it has come; removed when it is done."""
    return STATE / "checkpoints" / network


def metrics(folder: Path) -> Path:
    """The numbers of a stage that `dvc metrics show` lists."""
    return folder / "metrics.json"


def curve(folder: Path) -> Path:
    """The losses of a learner or network by fold and epoch; of what is not trained in epochs there are none."""
    return folder / "curve.csv"
