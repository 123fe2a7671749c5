"""Text: counts of words or letters, weighted, and a linear model or trees."""

from typing import Any

import numpy as np
from families.registry import Draw
from skl2onnx.common.data_types import StringTensorType
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from support import Feed

from recipes.registry import Trained, classifier_answers, converted, described, recipe

GOOD = ["good", "Great", "nice", "lovely", "best", "happy", "warm", "5"]
BAD = ["bad", "awful", "sad", "worst", "cold", "late", "broken", "0"]
PLAIN = ["the", "a", "hotel", "room", "x1", "under_score", "semi-detached", "can't", "12", "and", "was", "I"]
ODD = ["naïve", "Straße", "日本", "🙂", "", "ÉCOLE", "unseen", "a,b", "tab\tword", "!"]


def written(d: Draw, good: bool, odd: bool) -> str:
    """A sentence with a mood."""
    mood = d.many(GOOD if good else BAD, d.between(1, 3))
    rest = d.many(PLAIN, d.between(0, 6)) + (d.many(ODD, d.between(0, 3)) if odd else [])
    return d.one([" ", " ", "  ", ". "]).join(d.some(mood + rest, len(mood) + len(rest)))


@recipe(4)
def text_classifiers(d: Draw) -> Trained:
    """A vectorizer and a classifier."""
    moods = [d.chance(0.5) for _ in range(120)]
    texts = np.array([written(d, mood, False) for mood in moods], dtype=object)
    letters = d.chance(0.15)
    settings: dict[str, Any] = {
        "lowercase": d.chance(0.8),
        "ngram_range": d.one([(1, 1), (1, 1), (1, 2), (2, 2)]),
        "binary": d.chance(0.2),
    }
    settings |= {
        "max_features": d.one([None, 12]),
        "stop_words": d.one([None, None, ["the", "a"]]),
        "analyzer": "char" if letters else "word",
    }
    if letters:
        settings |= {"stop_words": None}
    if d.chance(0.6):
        vectorizer: Any = TfidfVectorizer(
            sublinear_tf=d.chance(0.3),
            norm=d.one(["l2", "l2", "l1", None]),
            use_idf=d.chance(0.8),
            smooth_idf=d.chance(0.8),
            **settings,
        )
    else:
        vectorizer = CountVectorizer(**settings)
    last = d.one(
        [
            LogisticRegression(max_iter=200),
            LinearSVC(),
            MultinomialNB(),
            ComplementNB(),
            SGDClassifier(loss="log_loss", random_state=1),
            RandomForestClassifier(n_estimators=6, random_state=1),
        ]
    )
    labels = np.array(d.one([["bad", "good"], [0, 1], ["b", "a"]]))[np.array(moods, dtype=int)]
    model = make_pipeline(vectorizer, last).fit(texts, labels)
    expression = None if letters else d.one([None, "[a-zA-Z0-9_]+"])
    options = {id(vectorizer): {"tokenexp": expression}} if expression else None
    graph = converted(d, model, [("text", StringTensorType([None]))], options)

    def rows(count: int) -> Feed:
        found = [written(d, d.chance(0.5), d.chance(0.3)) for _ in range(count)]
        return {"text": np.array(found, dtype=object)}

    def library(feed: Feed) -> list[np.ndarray | None]:
        return classifier_answers(model)(feed["text"])

    return Trained(graph, rows, library, described(model))
