"""Of the section on the submission: do the test set's predictions look like the out-of-fold ones?"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from goulot.reporting import charts
from goulot.reporting.finished import Run
from goulot.reporting.page import Block, Chart, Table

NUMBERS, ROWS = 4, 30


def compare(run: Run, test: np.ndarray) -> Iterator[Block]:
    """Histograms of both, with the Kolmogorov-Smirnov distance; of many names a table of the means.

    test: the blend's predictions of the test set, float (n, names).
    """
    target, oof = run.known.target, run.p
    if target.task == "binary":
        yield _histogram(f"probability of {target.names[1]}", oof[:, 1], test[:, 1])
        return
    if target.task == "regression":
        for i, name in enumerate(target.names[:NUMBERS]):
            low, high = min(oof[:, i].min(), test[:, i].min()), max(oof[:, i].max(), test[:, i].max())
            ends = (float(low), float(high) if high > low else float(low) + 1)
            yield _histogram(f"predicted {name}", oof[:, i], test[:, i], ends=ends)
        return
    if target.exclusive:
        yield _histogram("probability of the likeliest class", oof.max(axis=1), test.max(axis=1))
    kind = "label" if target.task == "multilabel" else "class"
    table = pd.DataFrame({
        kind: target.names, "share in training": run.counts / len(oof), "mean out of fold": oof.mean(axis=0),
        "mean in test": test.mean(axis=0),
    })  # fmt: skip
    table["difference"] = table["mean in test"] - table["mean out of fold"]
    order = table["difference"].abs().sort_values(ascending=False, kind="stable").index
    most = f", the {ROWS} that differ most of {len(table):,}" if len(table) > ROWS else ""
    yield Table.of(f"Mean predictions{most}", table.loc[order].head(ROWS))


def _histogram(name: str, oof: np.ndarray, test: np.ndarray, *, ends: tuple[float, float] = (0, 1)) -> Chart:
    found = ks_2samp(oof, test)
    caption = (
        f"{name[0].upper()}{name[1:]}: Kolmogorov-Smirnov distance {found.statistic:.3f} "
        f"(p = {found.pvalue:.2g}). The test set's are means of the folds' models, and so a little more even."
    )
    return Chart(caption, charts.densities([("out of fold", oof), ("test set", test)], name, ends))
