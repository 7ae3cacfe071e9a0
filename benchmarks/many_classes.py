"""What a fold costs where there are very many classes of few images: synthetic features, a learner at a time.

python benchmarks/many_classes.py logistic mlp [--classes 1000] [--images 5]
"""

import argparse
import resource
import time

import numpy as np
from threadpoolctl import threadpool_limits

from goulot import folds
from goulot.errors import GoulotError
from goulot.learners import Context, find
from goulot.targets import Target

CHANNELS, THREADS = 1024, 2


def main() -> None:
    """Print a line a learner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--images", type=int, default=5)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(given.classes), given.images)
    X = (0.6 * rng.normal(size=(given.classes, CHANNELS))[y] + rng.normal(size=(len(y), CHANNELS))).astype(np.float32)
    groups, target = np.arange(len(y)), Target("multiclass", [str(number) for number in range(given.classes)])
    inside = folds.deal(y, groups, task="multiclass", folds=5, seed=0) != 0
    for kind in given.kinds:
        start = time.monotonic()
        try:
            with threadpool_limits(THREADS):
                model = find(kind, {"kind": kind}).make(Context(seed=0, threads=THREADS, target=target))
                right = model.fit(X[inside], y[inside], groups[inside]).predict(X[~inside]).argmax(axis=1) == y[~inside]
        except GoulotError as error:
            print(f"{kind}: {error}")
            continue
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(f"{kind}: {time.monotonic() - start:.1f} s a fold, accuracy {right.mean():.3f}, peak {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
