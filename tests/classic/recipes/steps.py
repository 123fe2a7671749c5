"""Steps of preprocessing, alone and in rows, and clusters."""

from typing import Any

import numpy as np
from families.registry import Draw
from skl2onnx.common.data_types import Int64TensorType, StringTensorType
from sklearn import preprocessing
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from support import Feed

from recipes.registry import Table, Trained, converted, described, matrix_model, recipe


def step(d: Draw, features: int) -> Any:
    """One that takes numbers without gaps."""
    return d.one(
        [
            preprocessing.StandardScaler(with_mean=d.chance(0.8)),
            preprocessing.MinMaxScaler(feature_range=d.one([(0, 1), (-1, 1)]), clip=d.chance(0.3)),
            preprocessing.MaxAbsScaler(),
            preprocessing.RobustScaler(),
            preprocessing.Normalizer(norm=d.one(["l1", "l2", "max"])),
            preprocessing.Binarizer(threshold=0.5),
            preprocessing.KBinsDiscretizer(
                n_bins=4, encode=d.one(["ordinal", "onehot-dense"]), strategy=d.one(["uniform", "quantile"])
            ),
            preprocessing.PolynomialFeatures(degree=2, interaction_only=d.chance(0.5)),
            preprocessing.PowerTransformer(),
            preprocessing.QuantileTransformer(n_quantiles=20),
            PCA(n_components=min(2, features), whiten=d.chance(0.4)),
            TruncatedSVD(n_components=1),
            VarianceThreshold(0.01),
        ]
    )


@recipe(3)
def transformers(d: Draw) -> Trained:
    """Numbers in, numbers out."""
    table = Table(d)
    return matrix_model(d, step(d, table.features).fit(table.x), table, "transformer")


@recipe(1)
def imputers(d: Draw) -> Trained:
    """What fills gaps."""
    table = Table(d, gaps=0.2)
    model = d.one([SimpleImputer(strategy=d.one(["mean", "median", "most_frequent"])), KNNImputer(n_neighbors=3)])
    return matrix_model(d, model.fit(table.x), table, "transformer")


@recipe(2)
def encoders(d: Draw) -> Trained:
    """Words or whole numbers in, numbers out."""
    strings = d.chance(0.6)
    pool = np.array(["a", "b", "c", "é", ""], dtype=object) if strings else np.arange(5)
    seen = d.rng.choice(pool, (60, 2))
    model: Any = d.one(
        [
            preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            preprocessing.OneHotEncoder(drop="first", sparse_output=False),
            preprocessing.OrdinalEncoder(),
            preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        ]
    ).fit(seen)
    more = [("new" if strings else 9)] if getattr(model, "handle_unknown", "error") != "error" else []
    kind = StringTensorType if strings else Int64TensorType
    asked = np.array([*pool, *more], dtype=pool.dtype)
    graph = converted(d, model, [("X", kind([None, 2]))])

    def rows(count: int) -> Feed:
        return {"X": d.rng.choice(asked, (count, 2))}

    return Trained(graph, rows, lambda feed: [np.asarray(model.transform(feed["X"]))], described(model))


@recipe(1)
def clusters(d: Draw) -> Trained:
    """The nearest centre, or the likeliest."""
    table = Table(d)
    count = d.between(2, 4)
    model: Any = d.one(
        [KMeans(count, n_init=1, random_state=1), GaussianMixture(count, covariance_type=d.one(["full", "diag"]), random_state=1)]
    )
    model.fit(table.x)
    trained = matrix_model(d, model, table, "regressor")

    def library(feed: Feed) -> list[np.ndarray | None]:
        second = model.predict_proba(feed["X"]) if hasattr(model, "predict_proba") else model.transform(feed["X"])
        return [np.asarray(model.predict(feed["X"])), np.asarray(second)]

    trained.library = library
    return trained


@recipe(4)
def rows_of_steps(d: Draw) -> Trained:
    """Gaps filled, numbers changed once or twice, columns chosen, then a model."""
    table = Table(d, gaps=d.one([0.0, 0.1]))
    y = table.classes()
    parts: list[Any] = [SimpleImputer(strategy=d.one(["mean", "median"]))] if table.gaps else []
    parts.append(step(d, table.features))
    if d.chance(0.3):
        parts.append(SelectKBest(k=1))
    if d.chance(0.3):
        parts.append(preprocessing.StandardScaler())
    parts.append(
        d.one(
            [
                LogisticRegression(max_iter=200),
                KNeighborsClassifier(n_neighbors=3),
                MLPClassifier((5,), max_iter=20),
                SVC(kernel="rbf", probability=d.chance(0.5)),
            ]
        )
    )
    return matrix_model(d, make_pipeline(*parts).fit(table.x, y), table, "classifier")
