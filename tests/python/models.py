"""Models as people train them, with three thousand rows that they have not seen."""

import catboost
import lightgbm
import numpy as np
import pandas as pd
import sklearn
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier, StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMBERS = ["age", "income", "monthly charge"]
WORDS = "win a free prize now see you at lunch café à neuf heures été meeting tomorrow report money".split()  # noqa: SIM905, RUF100, E501


def customers(rows, seed):
    """Whole and broken numbers, booleans and texts, some of the numbers missing, and whether a customer leaves."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 90, rows).astype(float),
            "income": np.exp(random.normal(10, 1, rows)).round(2),
            "visits": random.integers(0, 30, rows),
            "member": random.random(rows) < 0.5,
            "city": random.choice(["Oslo", "Rome", "Köln", "New York"], rows),
            "monthly charge": random.normal(60, 20, rows),
        }
    )
    frame.loc[random.random(rows) < 0.1, "age"] = np.nan
    frame.loc[random.random(rows) < 0.05, "income"] = np.nan
    leaves = (frame["age"].fillna(40) > 45) ^ (frame["city"] == "Rome") ^ (frame["visits"] > 20)
    return frame, leaves.astype(int).to_numpy()


def messages(rows, seed):
    random = np.random.default_rng(seed)
    found = [" ".join(random.choice(WORDS, 6)) for _ in range(rows)]
    return pd.DataFrame({"text": [t.upper() if n % 9 == 0 else t for n, t in enumerate(found)]}), ["free" in t for t in found]


SEEN, LEAVES = customers(1200, 3)
UNSEEN, _ = customers(3000, 9)


def columns():
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), [*NUMBERS, "visits"]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ("rest", "passthrough", ["member"]),
        ]
    )


def pipeline(last):
    return make_pipeline(columns(), last).fit(SEEN, LEAVES), UNSEEN


def categories(frame):
    return frame.astype({"city": pd.CategoricalDtype(["Oslo", "Rome", "Köln", "New York"])})


def text_model():
    seen, wanted = messages(400, 1)
    model = make_pipeline(ColumnTransformer([("words", TfidfVectorizer(), "text")]), LogisticRegression())
    return model.fit(seen, wanted), messages(3000, 2)[0]


def stacked():
    forest = RandomForestClassifier(10, random_state=0, max_depth=6)
    return StackingClassifier([("forest", forest), ("linear", LogisticRegression(max_iter=500))], cv=3)


def for_outliers(frame):
    """Isolation forests take missing values since scikit-learn 1.6."""
    return frame[NUMBERS] if tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 6) else frame[NUMBERS].fillna(0)


# The flavor, and what trains the model and gives it with unseen rows.
MODELS = {
    "forest": ("sklearn", lambda: pipeline(RandomForestClassifier(20, random_state=0))),
    "histogram": ("sklearn", lambda: pipeline(HistGradientBoostingClassifier(max_iter=20))),
    "linear": ("sklearn", lambda: pipeline(LogisticRegression(max_iter=500))),
    "calibrated": ("sklearn", lambda: pipeline(CalibratedClassifierCV(LogisticRegression(max_iter=500), cv=3))),
    "calibrated-whole": (
        "sklearn",
        lambda: (
            CalibratedClassifierCV(make_pipeline(columns(), LogisticRegression(max_iter=500)), cv=2).fit(SEEN, LEAVES),
            UNSEEN,
        ),
    ),
    "stacked": ("sklearn", lambda: pipeline(stacked())),
    "neighbours": ("sklearn", lambda: pipeline(KNeighborsClassifier())),
    "words": ("sklearn", text_model),
    "outliers": (
        "sklearn",
        lambda: (IsolationForest(n_estimators=20, random_state=0).fit(for_outliers(SEEN)), for_outliers(UNSEEN)),
    ),
    "lightgbm": (
        "lightgbm",
        lambda: (
            lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1).fit(categories(SEEN), LEAVES),
            categories(UNSEEN),
        ),
    ),
    "xgboost": (
        "xgboost",
        lambda: (xgboost.XGBClassifier(n_estimators=20, n_jobs=1).fit(SEEN[NUMBERS], LEAVES), UNSEEN[NUMBERS]),
    ),
    "catboost": (
        "catboost",
        lambda: (
            catboost.CatBoostClassifier(iterations=20, verbose=0, allow_writing_files=False, thread_count=1).fit(
                SEEN[NUMBERS], LEAVES
            ),
            UNSEEN[NUMBERS],
        ),
    ),
}
