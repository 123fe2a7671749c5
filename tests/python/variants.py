"""Models at random, as people might train them: each number is another combination of data, steps, estimator and labels."""

import catboost
import lightgbm
import numpy as np
import pandas as pd
import xgboost
from sklearn import discriminant_analysis as da
from sklearn import ensemble, linear_model, naive_bayes, neighbors, neural_network, svm, tree
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler

ROWS = 450
SEEN = 300

NAMES = ["a b", "ünïcode", "x.y", "price ($)", "1st", "select", "a-b", "a/b", "label", "features", "probabilities", "prediction"]
NAMES += ["input", "model/x", "before", "日本", "A", " lead", "scores", "variable", "output_label"]

LABELS = {
    "0 1": lambda z: (z > 0).astype(int),
    "three": lambda z: np.digitize(z, [-0.5, 0.5]),
    "with gaps": lambda z: np.array([3, 7, 11])[np.digitize(z, [-0.5, 0.5])],
    "negative": lambda z: np.where(z > 0, 1, -1),
    "booleans": lambda z: z > 0,
    "texts": lambda z: np.array(["größe", "a b", "Z"])[np.digitize(z, [-0.5, 0.5])],
    "floats": lambda z: np.where(z > 0, 1.0, 0.0),
    "int8": lambda z: (z > 0).astype(np.int8),
    "uint8": lambda z: np.digitize(z, [0]).astype(np.uint8),
}

# What a column holds.
NUMBERS = {
    "float64": lambda r: r.normal(50, 20, ROWS),
    "float32": lambda r: r.normal(0, 1, ROWS).astype(np.float32),
    "money": lambda r: np.exp(r.normal(9, 1.5, ROWS)).round(2),
    "int64": lambda r: r.integers(-20, 200, ROWS),
    "int8": lambda r: r.integers(0, 5, ROWS).astype(np.int8),
    "uint16": lambda r: r.integers(0, 5000, ROWS).astype(np.uint16),
    "bool": lambda r: r.random(ROWS) < 0.4,
}
MISSING = {
    "NaN": lambda r: np.where(r.random(ROWS) < 0.2, np.nan, r.normal(5, 2, ROWS)),
    "Int64": lambda r: pd.array(np.where(r.random(ROWS) < 0.1, None, r.integers(0, 50, ROWS)), dtype="Int64"),
    "Float64": lambda r: pd.array(np.where(r.random(ROWS) < 0.1, None, r.normal(0, 3, ROWS)), dtype="Float64"),
}
TEXTS = {
    "texts": lambda r: pd.Series(r.choice(["red", "green", "Grün"], ROWS), dtype=object),
    "None": lambda r: pd.Series(np.where(r.random(ROWS) < 0.1, None, r.choice(["x", "y", "z w"], ROWS)), dtype=object),
    "category": lambda r: pd.Categorical(r.choice(["lo", "mid", "hi"], ROWS)),
    "string": lambda r: pd.array(r.choice(["p", "q"], ROWS), dtype="string"),
}

QUIET = {"n_estimators": 10, "verbose": -1, "n_jobs": 1}
CAT = {"iterations": 10, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
CLASSIFIERS = [
    lambda: linear_model.LogisticRegression(max_iter=300),
    lambda: linear_model.RidgeClassifier(),
    lambda: ensemble.RandomForestClassifier(9, random_state=0),
    lambda: ensemble.ExtraTreesClassifier(9, random_state=0),
    lambda: ensemble.GradientBoostingClassifier(n_estimators=8),
    lambda: ensemble.HistGradientBoostingClassifier(max_iter=8),
    lambda: ensemble.AdaBoostClassifier(n_estimators=5),
    lambda: ensemble.BaggingClassifier(n_estimators=4, random_state=0),
    lambda: tree.DecisionTreeClassifier(max_depth=5),
    lambda: neighbors.KNeighborsClassifier(5),
    lambda: svm.SVC(),
    lambda: svm.LinearSVC(),
    lambda: naive_bayes.GaussianNB(),
    lambda: neural_network.MLPClassifier([5], max_iter=60),
    lambda: da.LinearDiscriminantAnalysis(),
    lambda: lightgbm.LGBMClassifier(**QUIET),
    lambda: xgboost.XGBClassifier(n_estimators=8, n_jobs=1),
    lambda: catboost.CatBoostClassifier(**CAT),
]
REGRESSORS = [
    lambda: linear_model.Ridge(),
    lambda: linear_model.PoissonRegressor(),
    lambda: ensemble.RandomForestRegressor(8, random_state=0),
    lambda: ensemble.GradientBoostingRegressor(n_estimators=8),
    lambda: ensemble.HistGradientBoostingRegressor(max_iter=8, loss="poisson"),
    lambda: ensemble.HistGradientBoostingRegressor(max_iter=8, loss="gamma"),
    lambda: neighbors.KNeighborsRegressor(5),
    lambda: TransformedTargetRegressor(linear_model.LinearRegression(), func=np.log1p, inverse_func=np.expm1),
    lambda: TransformedTargetRegressor(ensemble.GradientBoostingRegressor(n_estimators=5), transformer=StandardScaler()),
    lambda: lightgbm.LGBMRegressor(objective="tweedie", **QUIET),
    lambda: lightgbm.LGBMRegressor(zero_as_missing=True, **QUIET),
    lambda: xgboost.XGBRegressor(n_estimators=8, n_jobs=1, objective="count:poisson"),
    lambda: xgboost.XGBRegressor(n_estimators=8, n_jobs=1),
    lambda: catboost.CatBoostRegressor(**CAT),
    lambda: catboost.CatBoostRegressor(loss_function="Poisson", **CAT),
]
SCALERS = [StandardScaler, MinMaxScaler, RobustScaler, MaxAbsScaler, lambda: PCA(2)]


def variant(number):
    """What it is, the trained model, and rows that it has not seen."""
    random = np.random.default_rng(number)
    classifier = random.random() < 0.55
    makers = CLASSIFIERS if classifier else REGRESSORS
    estimator = makers[number % len(makers)]()
    shape = random.choice(["numbers", "mixed", "one", "array"], p=[0.35, 0.4, 0.1, 0.15])
    kinds = [str(random.choice(list(NUMBERS))) for _ in range({"one": 1}.get(shape, int(random.integers(2, 6))))]
    kinds = kinds if shape != "one" else ["float64"]
    if shape == "mixed":
        kinds += [str(random.choice(list(MISSING))), *(str(kind) for kind in random.choice(list(TEXTS), 2))]
    odd = random.random() < 0.4 and not isinstance(estimator, (lightgbm.LGBMModel,))
    names = list(random.choice(NAMES, len(kinds), replace=False)) if odd else [f"c{place}" for place in range(len(kinds))]
    frame = pd.DataFrame(
        {str(name): ({**NUMBERS, **MISSING, **TEXTS})[kind](random) for name, kind in zip(names, kinds, strict=True)}
    )
    score = target(frame, random)
    model = wrapped(estimator, shape, frame, random)
    rows = frame if shape != "array" else frame.to_numpy(float)
    label = str(random.choice(list(LABELS)))
    if isinstance(estimator, xgboost.XGBClassifier) and label in ("with gaps", "negative", "texts"):
        label = "three"
    wanted = LABELS[label](score) if classifier else np.exp(score)
    seen, unseen = (rows[:SEEN], rows[SEEN:]) if shape == "array" else (rows.iloc[:SEEN], rows.iloc[SEEN:])
    what = f"{type(estimator).__name__}, {shape}, {', '.join(kinds)}, {label if classifier else 'numbers'}"
    return what, model.fit(seen, wanted[:SEEN]), unseen


def wrapped(estimator, shape, frame, random):
    """The estimator behind the steps that its data need, and some that they do not."""
    if shape != "mixed":
        return make_pipeline(random.choice(SCALERS[:4])(), estimator) if random.random() < 0.5 else estimator
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    numbers = [name for name in frame if name not in texts]
    encoders = [
        OneHotEncoder(handle_unknown="ignore"),
        OneHotEncoder(drop="first", sparse_output=False),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
        make_pipeline(SimpleImputer(strategy="most_frequent", missing_values=None), OneHotEncoder(handle_unknown="ignore")),
    ]
    imputer = SimpleImputer(strategy=str(random.choice(["mean", "median", "constant"])), add_indicator=random.random() < 0.3)
    before = make_pipeline(imputer, random.choice(SCALERS)())
    encoder = encoders[random.integers(len(encoders))]
    return make_pipeline(ColumnTransformer([("n", before, numbers), ("t", encoder, texts)], sparse_threshold=0), estimator)


def target(frame, random):
    """A number for each row that depends on all columns."""
    score = np.zeros(len(frame))
    for name in frame:
        codes = frame[name] if pd.api.types.is_numeric_dtype(frame[name]) else pd.factorize(frame[name].astype(object))[0]
        values = np.nan_to_num(pd.Series(codes).astype("float64").to_numpy(float, na_value=np.nan))
        score += random.normal() * (values - values.mean()) / (values.std() or 1)
    return score / (score.std() or 1)
