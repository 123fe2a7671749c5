"""Estimators of scikit-learn over a matrix."""

from collections.abc import Callable
from typing import Any

import numpy as np
from families.registry import Draw
from sklearn import ensemble, linear_model, naive_bayes, neighbors, neural_network, svm, tree
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor

from recipes.registry import Table, Trained, matrix_model, recipe

Make = Callable[[Draw], Any]
KERNELS = ["rbf", "linear", "poly", "sigmoid"]


def seed(d: Draw) -> int:
    """For the library's own draws."""
    return d.between(0, 9999)


def depth(d: Draw) -> int | None:
    """How deep trees may be."""
    return d.one([None, 1, 2, 4, 7])


def single_classifier(d: Draw) -> Any:
    """One tree."""
    kind = d.one([tree.DecisionTreeClassifier, tree.ExtraTreeClassifier])
    return kind(max_depth=depth(d), min_samples_leaf=d.one([1, 5]), random_state=seed(d))


def forest_classifier(d: Draw) -> Any:
    """Some trees."""
    kind = d.one([ensemble.RandomForestClassifier, ensemble.ExtraTreesClassifier])
    return kind(n_estimators=d.one([3, 10, 30]), max_depth=depth(d), random_state=seed(d))


def boosted_classifier(d: Draw) -> Any:
    """Trees one after the other."""
    loss = d.one(["log_loss", "log_loss", "exponential"])
    return ensemble.GradientBoostingClassifier(
        loss=loss, n_estimators=d.one([5, 25]), max_depth=d.between(1, 4), random_state=seed(d)
    )


def histogram_classifier(d: Draw) -> Any:
    """Trees on bins, which route gaps."""
    return ensemble.HistGradientBoostingClassifier(
        max_iter=d.one([5, 25]), max_leaf_nodes=d.one([4, 15, 31]), learning_rate=d.one([0.1, 0.4]), random_state=seed(d)
    )


TREES: list[tuple[Make, bool]] = [
    (single_classifier, False),
    (forest_classifier, False),
    (forest_classifier, True),
    (boosted_classifier, False),
    (histogram_classifier, True),
    (lambda d: ensemble.AdaBoostClassifier(tree.DecisionTreeClassifier(max_depth=d.between(1, 3)), n_estimators=8), False),
    (lambda d: ensemble.BaggingClassifier(n_estimators=4, max_features=d.one([0.5, 1.0]), random_state=seed(d)), False),
]
LINEAR: list[Make] = [
    lambda d: linear_model.LogisticRegression(C=d.one([0.1, 1, 30]), max_iter=300),
    lambda d: linear_model.LogisticRegression(fit_intercept=False, max_iter=300),
    lambda d: linear_model.RidgeClassifier(alpha=d.one([0.1, 5.0])),
    lambda d: linear_model.SGDClassifier(
        loss=d.one(["hinge", "log_loss", "modified_huber", "squared_hinge"]), random_state=seed(d)
    ),
    lambda d: linear_model.Perceptron(random_state=seed(d)),
    lambda _: svm.LinearSVC(max_iter=500),
    lambda d: OneVsRestClassifier(
        d.one([linear_model.LogisticRegression(max_iter=300), tree.DecisionTreeClassifier(max_depth=3)])
    ),
    lambda _: OneVsOneClassifier(linear_model.LogisticRegression(max_iter=300)),
    lambda d: CalibratedClassifierCV(linear_model.LogisticRegression(max_iter=300), cv=3, method=d.one(["sigmoid", "isotonic"])),
    lambda _: LinearDiscriminantAnalysis(),
    lambda _: QuadraticDiscriminantAnalysis(reg_param=0.1),
]
OTHERS: list[Make] = [
    lambda d: neighbors.KNeighborsClassifier(n_neighbors=d.one([1, 3, 5]), p=d.one([1, 2])),
    lambda d: neural_network.MLPClassifier(
        hidden_layer_sizes=(d.one([4, 9]),), activation=d.one(["relu", "tanh", "logistic"]), max_iter=30
    ),
    lambda d: ensemble.VotingClassifier(
        [("a", linear_model.LogisticRegression(max_iter=300)), ("b", tree.DecisionTreeClassifier(max_depth=3))],
        voting=d.one(["soft", "hard"]),
        flatten_transform=False,
    ),
    lambda _: ensemble.StackingClassifier(
        [("a", linear_model.LogisticRegression(max_iter=300)), ("b", tree.DecisionTreeClassifier(max_depth=3))], cv=2
    ),
]


@recipe(4)
def tree_classifiers(d: Draw) -> Trained:
    """Trees and their ensembles; gaps where the model takes them."""
    make, takes_gaps = d.one(TREES)
    table = Table(d, gaps=d.one([0.0, 0.1]) if takes_gaps else 0.0)
    model = make(d)
    classes = 2 if getattr(model, "loss", "") == "exponential" else None
    return matrix_model(d, model.fit(table.x, table.classes(classes)), table, "classifier")


@recipe(3)
def linear_classifiers(d: Draw) -> Trained:
    """A plane for each class or pair."""
    table = Table(d)
    model = d.one(LINEAR)(d).fit(table.x, table.classes())
    options = {id(model): {"zipmap": False, "raw_scores": True}} if d.chance(0.1) and hasattr(model, "coef_") else None
    return matrix_model(d, model, table, "classifier", options)


@recipe(2)
def vector_machines(d: Draw) -> Trained:
    """Kernels, with probabilities or votes."""
    table = Table(d)
    kind = d.one([svm.SVC, svm.SVC, svm.NuSVC])
    model = kind(
        kernel=d.one(KERNELS),
        gamma=d.one(["scale", 0.1]),
        degree=d.between(1, 3),
        coef0=d.one([0.0, 1.0]),
        probability=d.chance(0.5),
    )
    return matrix_model(d, model.fit(table.x, table.classes()), table, "classifier")


@recipe(1)
def bayes(d: Draw) -> Trained:
    """Naive models of each kind of number."""
    kind = d.one([naive_bayes.GaussianNB, naive_bayes.BernoulliNB, naive_bayes.MultinomialNB, naive_bayes.ComplementNB])
    table = Table(d, positive=kind in (naive_bayes.MultinomialNB, naive_bayes.ComplementNB))
    return matrix_model(d, kind().fit(table.x, table.classes()), table, "classifier")


@recipe(2)
def other_classifiers(d: Draw) -> Trained:
    """Neighbours, networks, and models of models."""
    table = Table(d)
    return matrix_model(d, d.one(OTHERS)(d).fit(table.x, table.classes()), table, "classifier")


def histogram_regressor(d: Draw) -> Any:
    """Trees on bins with every loss."""
    loss = d.one(["squared_error", "absolute_error", "poisson", "gamma"])
    return ensemble.HistGradientBoostingRegressor(
        loss=loss, max_iter=d.one([5, 25]), max_leaf_nodes=d.one([4, 31]), random_state=seed(d)
    )


def boosted_regressor(d: Draw) -> Any:
    """Trees one after the other with every loss."""
    loss = d.one(["squared_error", "absolute_error", "huber", "quantile"])
    return ensemble.GradientBoostingRegressor(
        loss=loss, n_estimators=d.one([5, 25]), max_depth=d.between(1, 4), random_state=seed(d)
    )


REGRESSORS: list[tuple[Make, str]] = [
    (lambda d: tree.DecisionTreeRegressor(max_depth=depth(d), random_state=seed(d)), "some"),
    (lambda d: ensemble.RandomForestRegressor(n_estimators=d.one([3, 20]), max_depth=depth(d), random_state=seed(d)), "some"),
    (lambda d: ensemble.ExtraTreesRegressor(n_estimators=5, max_depth=depth(d), random_state=seed(d)), "some"),
    (boosted_regressor, ""),
    (histogram_regressor, "gaps positive"),
    (lambda d: ensemble.AdaBoostRegressor(n_estimators=6, random_state=seed(d)), ""),
    (lambda d: ensemble.BaggingRegressor(n_estimators=4, random_state=seed(d)), ""),
    (lambda _: linear_model.LinearRegression(), "some"),
    (lambda d: linear_model.Ridge(alpha=d.one([0.1, 5.0])), "some"),
    (lambda d: d.one([linear_model.Lasso, linear_model.ElasticNet])(alpha=0.05), ""),
    (lambda d: d.one([linear_model.BayesianRidge, linear_model.HuberRegressor, linear_model.TheilSenRegressor])(), ""),
    (lambda d: d.one([linear_model.PoissonRegressor, linear_model.GammaRegressor, linear_model.TweedieRegressor])(), "positive"),
    (lambda d: svm.SVR(kernel=d.one(KERNELS), gamma=d.one(["scale", 0.1])), ""),
    (lambda d: svm.NuSVR(kernel=d.one(["rbf", "linear"])), ""),
    (lambda _: svm.LinearSVR(max_iter=500), ""),
    (lambda d: neighbors.KNeighborsRegressor(n_neighbors=d.one([1, 4])), "some"),
    (
        lambda d: neural_network.MLPRegressor(
            hidden_layer_sizes=(d.one([4, 9]),), activation=d.one(["relu", "tanh", "logistic"]), max_iter=30
        ),
        "",
    ),
    # With a small `alpha`, large terms cancel, and both engines answer with the noise of single precision.
    (lambda _: GaussianProcessRegressor(alpha=10.0), ""),
    (lambda _: MultiOutputRegressor(linear_model.Ridge()), "several"),
    (lambda _: ensemble.VotingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))]), ""),
]


@recipe(6)
def regressors(d: Draw) -> Trained:
    """One target, or several where the model takes them."""
    make, traits = d.one(REGRESSORS)
    table = Table(d, gaps=d.one([0.0, 0.1]) if "gaps" in traits else 0.0)
    targets = 2 if traits == "several" or (traits == "some" and d.chance(0.25)) else 1
    y = table.numbers(positive="positive" in traits, targets=targets)
    return matrix_model(d, make(d).fit(table.x, y), table, "regressor")


@recipe(1)
def outliers(d: Draw) -> Trained:
    """Strange rows; the second output has scores."""
    table = Table(d)
    model: Any = d.one(
        [
            ensemble.IsolationForest(n_estimators=8, random_state=seed(d)),
            svm.OneClassSVM(nu=0.2),
            neighbors.LocalOutlierFactor(n_neighbors=5, novelty=True),
        ]
    ).fit(table.x)
    trained = matrix_model(d, model, table, "regressor", {id(model): {}})
    asked = trained.library
    trained.library = lambda feed: [*asked(feed), np.asarray(model.decision_function(feed["X"]))]
    return trained
