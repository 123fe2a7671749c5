"""Text: its normal form, its words, and counts of them."""

import numpy as np
from support import MICROSOFT, Feed, Json

from families.registry import WORDS, Draw, Sample, family, sample

SENTENCES = [
    "the cat sat",
    "The CAT, the hat!",
    "",
    " ",
    "a",
    "naïve Straße ÉCOLE",
    "日本 語 text",
    "one  two   three",
    "x1 y_2 z-3",
    "tab\tand\nline",
    "🙂 emoji 🙂",
    "#pad#",
    "İstanbul ǅ ß",
    "the the the cat cat",
    "can't won't",
    "a,b;c d",
]
VOCABULARY = ["the", "cat", "sat", "hat", "a", "naïve", "", "日本", "one", "two", "b", "c"]
EXPRESSIONS = [
    "[a-zA-Z0-9_]+",
    "[a-zA-Z]+",
    ".",
    "[^ ]+",
    r"\w+",
    r"\b\w\w+\b",
    "[a-z]",
    "the|cat|[0-9]+",
    "(?:a|b)+",
    r"[\p{L}]+",
]
SEPARATORS = [[" "], [",", ";", " "], ["[ ,]"], [r"\s"], [""], ["the", " "], ["a"]]


@family(2)
def string_normalizer(d: Draw) -> Sample:
    """Cases and stop words; only a vector, or one row, is taken."""
    attributes: dict[str, Json] = {"case_change_action": d.one([None, "NONE", "LOWER", "LOWER", "UPPER"])}
    attributes["is_case_sensitive"] = d.one([None, 0, 1])
    if d.chance(0.6):
        attributes["stopwords"] = d.some([*VOCABULARY, "A", "THE", "É", "ß"], d.between(1, 4))
    count = d.one([1, 2, 4, 7, 0])
    shape = d.one([(count,), (count,), (1, count), (1, count), (2, count)] if d.chance(0.2) else [(count,), (1, count)])
    return sample(d, "StringNormalizer", [{"X": d.strings(shape, [*WORDS, *SENTENCES, "THE", "the"])}], attributes=attributes)


@family(2.5)
def tokenizer(d: Draw) -> Sample:
    """Tokens by an expression, by separators, or letter by letter."""
    attributes: dict[str, Json] = {
        "mark": d.one([0, 0, 0, 1]),
        "mincharnum": d.one([1, 1, 1, 2, 3]),
        "pad_value": d.one(["#", "#", "", "pad"]),
    }
    if d.chance(0.6):
        attributes["tokenexp"] = d.one(EXPRESSIONS)
    else:
        attributes["separators"] = d.one(SEPARATORS)
    shapes: list[tuple[int, ...]] = [(count,) for count in d.batches()]
    if d.chance(0.4):
        shapes = [(count, d.between(1, 2)) for count in d.batches()]
    found: list[Feed] = [{"X": d.strings(shape, SENTENCES)} for shape in shapes]
    return sample(d, "Tokenizer", found, domain=MICROSOFT, attributes=attributes)


def pool(d: Draw, kind: str) -> tuple[list[Json], list[int], int]:
    """Grams of one, two and three, where each length begins, and how many grams there are."""
    longest = d.one([1, 1, 2, 3])
    found: list[Json] = []
    starts: list[int] = []
    total = 0
    alphabet: list[Json] = list(VOCABULARY) if kind == "str" else list(range(6))
    for length in range(1, longest + 1):
        starts.append(len(found))
        grams = {tuple(d.many(alphabet, length)) for _ in range(d.between(1, 5))}
        total += len(grams)
        for gram in sorted(grams):
            found.extend(gram)
    return found, starts, total


@family(2.5)
def tf_idf_vectorizer(d: Draw) -> Sample:
    """Counts, weights and both, with grams that may skip."""
    kind = d.one(["str", "str", "int64", "int32"])
    grams, starts, total = pool(d, kind)
    most = d.between(1, len(starts)) if d.chance(0.3) else len(starts)
    attributes: dict[str, Json] = {
        "mode": d.one(["TF", "TF", "IDF", "TFIDF"]),
        "min_gram_length": d.between(1, most),
        "max_gram_length": most,
        "max_skip_count": d.one([0, 0, 0, 1, 2]),
        "ngram_counts": starts,
        "ngram_indexes": list(range(total)) if d.chance(0.7) else d.some(range(total + 2), total),
        "pool_strings" if kind == "str" else "pool_int64s": grams,
        "weights": [abs(each) for each in d.weights(total)] if d.chance(0.5) else None,
    }
    length = d.one([1, 3, 6, 9, 0])
    shapes: list[tuple[int, ...]] = [(length,)] if d.chance(0.2) else [(count, length) for count in d.batches()]
    found = []
    for shape in shapes:
        data = d.strings(shape, VOCABULARY) if kind == "str" else d.rng.integers(-1, 7, shape).astype(np.dtype(kind))
        found.append({"X": data})
    return sample(d, "TfIdfVectorizer", found, attributes=attributes)
