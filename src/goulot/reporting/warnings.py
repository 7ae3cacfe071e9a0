"""What a person should know before trusting a score, a line each."""

from collections.abc import Iterator

from goulot import layout
from goulot.artifacts import read_json
from goulot.reporting import uncertainty
from goulot.reporting.finished import Run

FEW, NAMED = 10, 8  # images of a class; names of such classes that are told


def find(run: Run) -> list[str]:
    """All that hold of this run, the gravest kinds first."""
    return [*_leaks(), *_scores(run), *_classes(run), *_aside()]


def _leaks() -> Iterator[str]:
    audit = read_json(layout.metrics(layout.AUDIT))
    if pairs := audit["pairs_across_train_and_test"]:
        yield (
            f"{pairs:,} pairs of near-identical images have one in the training and one in the test set (Duplicates, "
            "below): the models have seen part of what they are tested on."
        )
    if pairs := audit["conflicting_pairs"]:
        yield (
            f"{pairs:,} pairs of near-identical training images bear different labels: correct them, or goulot drop "
            "leaves images out (Duplicates, below)."
        )
    if groups := audit["groups_doubted"]:
        yield f"{groups:,} very large groups of near-identical images were found (see audit.merge_large)."
    for what in audit["hidden_groups"]:
        yield (
            f"Images that share the {what} look alike, and folds part them. Where the test images are of others, "
            "these scores flatter: name the column that tells such groups as ingest.train.group."
        )


def _scores(run: Run) -> Iterator[str]:
    metric, judged = run.metric, run.judged["blend"]
    gap = read_json(layout.metrics(layout.BLEND))["optimism"]
    if gap and judged.error > 0 and gap > judged.error:
        yield (
            f"On the rows that its weights were chosen on, the blend looks better by {gap:.4f} in {metric.title}, more "
            f"than the standard error of its nested score ({judged.error:.4f}): trust the nested score alone."
        )
    group = run.known.images["group"].to_numpy()
    for f, score, error, middle in uncertainty.strange_folds(
        metric, run.known.y, run.taken, run.known.fold, group
    ):  # fmt: skip
        yield (
            f"Fold {f} differs: {metric.title} {score:.4f} ± {error:.4f}, where the median of the others is "
            f"{middle:.4f}. Its images may be of another kind."
        )


def _classes(run: Run) -> Iterator[str]:
    if run.known.target.task == "regression":
        return
    few = [(name, count) for name, count in zip(run.kinds, run.counts.tolist(), strict=True) if count < FEW]
    if few:
        named = ", ".join(f"{name} ({count})" for name, count in few[:NAMED])
        more = f" and {len(few) - NAMED:,} more" if len(few) > NAMED else ""
        kind = "labels" if run.known.target.task == "multilabel" else "classes"
        yield f"Fewer than {FEW} training images are of the {kind} {named}{more}: their scores say little."


def _aside() -> Iterator[str]:
    ingest = read_json(layout.metrics(layout.INGEST))
    if ingest["quarantined"]:
        yield f"{ingest['quarantined']:,} images could not be used and were set aside."
    if filled := read_json(layout.metrics(layout.SUBMIT))["filled_by_prior"]:
        yield f"{filled:,} rows of the submission are the training set's prior: their images could not be used."
    if ingest["dropped"]:
        yield (
            f"{ingest['dropped']:,} training images were left out by ingest.drop: the scores are over the others, "
            "and cannot be compared with those of a run that had them."
        )
    if ingest["unlisted"]:
        yield f"{ingest['unlisted']:,} image files are named by no table, or have names that no table can hold."
