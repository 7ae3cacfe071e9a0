"""`goulot init`: look at a data set, work its layout out, say what was found and write it into params.yaml."""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from goulot import dataset, labelling, layout, learners, metrics, params, sources, submission, tables, targets
from goulot.commands.editing import edited
from goulot.discovery import Found, Given, deduce
from goulot.discovery.survey import Survey, survey
from goulot.errors import ParamsError, SubmissionError
from goulot.targets import Target, Task

log = logging.getLogger("goulot")

# What dvc watches where a source is nothing on this machine: the code that lays out the samples.
UNWATCHED = "src/goulot/samples"
FEW_NAMES = 20  # that every learner takes
# What a metric says of whole numbers, which may be classes, grades or measures.
BY_METRIC: dict[str, Task] = {
    "qwk": "ordinal", "rmse": "regression", "mae": "regression", "r2": "regression", "log_loss": "multiclass",
    "accuracy": "multiclass", "balanced_accuracy": "multiclass", "roc_auc": "multiclass",
    "f1_macro": "multiclass", "f1_weighted": "multiclass", "f1_micro": "multiclass", "map": "multiclass",
}  # fmt: skip

SAID: dict[submission.Kind, str] = {
    "probability": "the probability of {of!r}", "label": "a label", "columns": "a column for each class or label",
    "top": "the {most} likeliest labels", "list": "the labels that apply", "number": "a number",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What was found and the target that the labels make; how many images there are of each kind."""

    found: Found
    target: Target
    train: int
    test: int
    missing: int
    by_label: dict[str, int]
    unused: dict[str, int]


def run(source: str, *, metric: str | None = None, given: Given | None = None) -> list[str]:
    """Look, write the data set's settings into params.yaml; return the explanation, a line a finding."""
    params.read()
    if not source.startswith(tuple(f"{kind}:" for kind in sources.KINDS)) and Path(source).expanduser().exists():
        source = f"path:{source}"
    with sources.at_hand(source) as root:
        looked = survey(root)
        outcome = _outcome(looked, metric, given)
        lines = [*_explained(looked, outcome), *_asked(looked, outcome, metric or "auto")]
    left_out = _write(source, outcome, metric)
    wrote = f"wrote fetch, ingest, blend.metric and report.title to {layout.PARAMS}; next: dvc repro"
    return [*lines, *left_out, wrote]


def _outcome(looked: Survey, metric: str | None, given: Given | None) -> Outcome:
    """Read the labels by the layout that was found, as `ingest` will."""
    found = deduce(looked, given)
    spec = params.parse("ingest.train", found.train, dataset.LabelledImages)
    test = dataset.nothing("test")
    if found.test is not None:
        test = dataset.listing(looked.files, params.parse("ingest.test", found.test, dataset.Images), "test")
    train = dataset.listing(looked.files, spec, "train", leave_out=frozenset(test.rows["file"]))
    cells = train.cells
    if spec.separator is None:
        cells = cells[~cells[spec.columns].apply(tables.is_blank).any(axis=1)]
    target = _target(cells, spec, looked.tables[found.sample].rows if found.sample else None, metric)
    labels = labelling.columns(cells, spec.columns, spec.separator, target)["label"]
    named = pd.concat([train.rows["file"], test.rows["file"]])
    unused = Counter(file.rpartition("/")[0] or "." for file in set(looked.images) - set(named))
    return Outcome(
        found, target, len(train.rows), len(test.rows),
        missing=int((~named.isin(looked.files.all)).sum()),
        by_label=dict(Counter(labels)) if target.exclusive else {},
        unused=dict(sorted(unused.items())),
    )  # fmt: skip


def _target(
    cells: pd.DataFrame, spec: dataset.LabelledImages, sample: pd.DataFrame | None, metric: str | None
) -> Target:
    """The target, where the metric decides what whole numbers are."""
    target = labelling.target(cells, spec.columns, spec.separator, "auto", sample)
    wanted = BY_METRIC.get((metric or "").partition("@")[0])
    open_ = target.task in ("ordinal", "multiclass", "regression") and len(spec.columns) == 1
    if wanted is None or wanted == target.task or not open_:
        return target
    if targets.number_set(set(cells[spec.columns[0]])) is None:
        return target
    return labelling.target(cells, spec.columns, spec.separator, wanted, sample)


def _explained(looked: Survey, outcome: Outcome) -> Iterator[str]:
    found = outcome.found
    yield f"{outcome.train:,} training images: {_where(found.train)}"
    yield f"{outcome.test:,} test images" + (f": {_where(found.test)}" if found.test else "; submit has nothing to do")
    yield f"label: {_label(found.train)}, since {found.why}"
    yield f"task: {outcome.target.task}: {_names(outcome)}"
    if "group" in found.train:
        yield f"folds keep images of one {found.train['group']!r} together"
    if outcome.missing:
        yield f"{outcome.missing:,} images that the tables name are not there; ingest sets them aside"
    if found.further:
        yield f"both tables have {', '.join(found.further[:12])}; name them in ingest.extra to use them"
    yield f"sample submission: {found.sample or 'none'}"
    if found.unused:
        yield f"tables not used: {_shown(found.unused)}"
    if outcome.unused:
        yield f"images not used: {_shown([f'{count:,} in {folder}/' for folder, count in outcome.unused.items()])}"
    for name, reason in list(looked.unreadable.items())[:3]:
        yield f"not read: {name}: {reason}"


def _asked(looked: Survey, outcome: Outcome, metric: str) -> list[str]:
    """What a submission's cells will hold, told now and not when the run is over. Raises ParamsError for the metric."""
    try:
        scored = metrics.of(metric, outcome.target)
    except ParamsError as error:
        raise ParamsError(f"{error} (by --metric; without it init writes the rest)") from error
    sample = looked.tables[outcome.found.sample].rows if outcome.found.sample else None
    if sample is None or outcome.found.test is None:
        return []
    try:
        kind = submission.detect(sample, outcome.target, scored)
        form = submission.form(sample, outcome.target, scored, kind)
    except SubmissionError as error:
        return [f"submit would stop: {error}"]
    names = outcome.target.names
    said = SAID[kind].format(most=form.most, of=names[-1])  # the second of two
    return [f"a submission's cells: {said}", *_positive(scored, names)]


def _positive(metric: metrics.Metric, names: list[str]) -> list[str]:
    if metric.name != "f1":
        return []
    other = json.dumps(names[::-1], ensure_ascii=False)
    return [f"F1 is that of {names[1]!r}; ingest.classes: {other} makes it that of {names[0]!r}"]


def _shown(items: list[str], most: int = 6) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _where(spec: dict[str, Any]) -> str:
    return f"{spec['image']}, by {spec['table']} (ids: {spec['id']})" if "table" in spec else str(spec["image"])


def _label(train: Mapping[str, Any]) -> str:
    if "labels" in train:
        return f"{len(train['labels'])} columns ({_shown(train['labels'], 4)})"
    if "label" not in train:
        return "{label} in the path"
    return f"column {train['label']!r}" + (f" parted by {train['separator']!r}" if "separator" in train else "")


def _names(outcome: Outcome) -> str:
    counts = outcome.by_label
    return _shown([f"{n} ({counts[n]:,})" if n in counts else n for n in outcome.target.names], 8)


def _write(source: str, outcome: Outcome, metric: str | None) -> list[str]:
    """Change the sections; return what was said of learners that are left out."""
    found = outcome.found
    with edited() as document:
        for section in ("fetch", "ingest", "blend"):
            if not isinstance(document.setdefault(section, CommentedMap()), CommentedMap):
                raise ParamsError(f"params.yaml: {section} must hold settings")
        path = sources.local(source)
        document["fetch"]["source"] = _text(source if path is None else f"path:{path.resolve()}")
        document["fetch"]["watch"] = _text(UNWATCHED if path is None else str(path.resolve()))
        ingest = document["ingest"]
        ingest["train"], ingest["test"] = _flow(found.train), _flow(found.test) if found.test else None
        ingest["task"] = outcome.target.task
        if found.sample != ingest.get("sample", "sample_submission.csv"):
            ingest["sample"] = _text(found.sample or "sample_submission.csv")
        # What was said of the data set before.
        ingest["extra"] = []
        if "drop" in ingest:
            ingest["drop"] = []
        if "classes" in ingest:
            ingest["classes"] = None
        if isinstance(submit := document.get("submit"), CommentedMap) and "format" in submit:
            submit["format"] = "auto"
        document["blend"]["metric"] = metric or "auto"
        if isinstance(document.get("report"), CommentedMap):
            document["report"]["title"] = _text(
                source.partition(":")[2] if path is None else path.resolve().name.partition(".")[0] or "goulot"
            )
        return _leave_out(document, outcome.target)


def _leave_out(document: CommentedMap, target: Target) -> list[str]:
    """Take out of `learn.learners` those that refuse so many names; a run would stop at them."""
    learners_ = (document.get("learn") or {}).get("learners") or {}
    refused = learners.refused(learners_, target) if len(target.names) > FEW_NAMES else {}
    for name in refused:
        del learners_[name]
    return [f"left {name} out of learn.learners: {reason}" for name, reason in refused.items()]


def _flow(spec: dict[str, Any]) -> CommentedMap:
    """A mapping on one line; text that YAML could take for something else is quoted."""
    made = CommentedMap({
        key: CommentedSeq(map(_text, value)) if isinstance(value, list) else
        _flow(value) if isinstance(value, dict) else _text(value) for key, value in spec.items()
    })  # fmt: skip
    made.fa.set_flow_style()
    return made


def _text(value: str) -> Any:
    """The text, marked for ruamel.yaml to be quoted where it has to be."""
    plain = value.replace("_", "").replace(".", "").replace("/", "").isalnum() and not value[0].isdigit()
    words = {"y", "n", "yes", "no", "true", "false", "on", "off", "null"}
    return value if plain and value.isascii() and value.lower() not in words else DoubleQuotedScalarString(value)
