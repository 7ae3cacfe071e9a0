"""Linear probes: the classifier that is best on features as they are, as the weights of a network's last layer."""

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from goulot.targets import Task

MAX_ITER = 300


def fit(task: Task, X: np.ndarray, y: np.ndarray, *, C: float, balanced: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Weight (names, channels) and bias (names,) that give what `training.output` takes, of features (n, channels).

    Logistic regression, one for all classes or one a label; for numbers ridge regression. C is the inverse of the ridge
    penalty on features whose mean variance is 1: one scale for all, since a channel that hardly varies would else get a
    weight with which the first steps of the blocks before it throw every output off. y is as an `Estimator` takes it;
    `balanced` weighs its classes or labels.
    """
    mean, scale = X.mean(axis=0), np.sqrt(X.var(axis=0).mean()) or 1.0
    X = (X - mean) / scale
    if task == "regression":
        model = Ridge(alpha=1 / C).fit(X, y)
        weight, bias = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    elif task == "multilabel":
        models = [_logistic(X, column, C, balanced) for column in y.T]
        weight, bias = np.concatenate([m.coef_ for m in models]), np.concatenate([m.intercept_ for m in models])
    else:
        model = _logistic(X, y, C, balanced)
        weight, bias = model.coef_, model.intercept_
        if len(weight) == 1:  # of two classes: a softmax wants a logit each
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return weight, bias - weight @ mean


def _logistic(X: np.ndarray, y: np.ndarray, C: float, balanced: bool) -> LogisticRegression:
    weight = "balanced" if balanced else None
    return LogisticRegression(C=C, max_iter=MAX_ITER, tol=1e-3, class_weight=weight).fit(X, y)
