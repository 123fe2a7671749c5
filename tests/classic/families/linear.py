"""Linear models and support vector machines."""

import numpy as np
from support import ML, Feed, Json

from families.registry import CALM, NUMBERS, ODD, Draw, Sample, family, label_attribute, sample

POSTS = ["NONE", "NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]


def feeds(d: Draw, features: int, kind: str, level: str = ODD) -> list[Feed]:
    """Batches, rarely one row without an axis of rows."""
    if d.chance(0.06):
        return [{"X": d.data(kind, (features,), level)}]
    return [{"X": d.data(kind, (count, features), level)} for count in d.batches()]


@family(3)
def linear_classifier(d: Draw) -> Sample:
    """One row of coefficients with two labels has rules of its own."""
    classes = d.one([2, 2, 2, 3, 4, 5])
    rows = 1 if classes == 2 and d.chance(0.5) else classes
    features = d.one([1, 2, 4, 9, 33])
    # The answers to PROBIT of a single row are what the memory held.
    post = d.one(POSTS if rows == 1 or d.chance(0.9) else ["PROBIT"])
    attributes: dict[str, Json] = {"coefficients": d.weights(rows * features), "post_transform": post}
    attributes["intercepts"] = d.weights(rows) if d.chance(0.9) else None
    attributes["multi_class"] = d.one([None, 0, 1])
    attributes |= label_attribute(d.labels(classes), "classlabels_strings", "classlabels_ints")
    kind = d.one(["float32", "float32", "float32", *NUMBERS])
    return sample(d, "LinearClassifier", feeds(d, features, kind), ("label", "scores"), domain=ML, attributes=attributes)


@family(2)
def linear_regressor(d: Draw) -> Sample:
    """One target or some."""
    targets = d.one([1, 1, 2, 3])
    features = d.one([1, 2, 4, 9, 33])
    attributes: dict[str, Json] = {"coefficients": d.weights(targets * features), "targets": targets if d.chance(0.9) else None}
    attributes["intercepts"] = d.weights(targets) if d.chance(0.85) else None
    attributes["post_transform"] = d.one([None, *POSTS])
    kind = d.one(["float32"] * 8 + ["float64", "int64"])
    return sample(d, "LinearRegressor", feeds(d, features, kind), domain=ML, attributes=attributes)


def kernel(d: Draw) -> dict[str, Json]:
    """A kernel with gamma, an offset and a degree."""
    gamma = d.one([0.1, 0.5, 1.0, 0.03])
    params = [gamma, d.one([0.0, 1.0, -0.5]), float(d.one([1, 2, 3]))]
    return {"kernel_type": d.one(["LINEAR", "POLY", "RBF", "RBF", "SIGMOID"]), "kernel_params": params}


@family(3)
def svm_classifier(d: Draw) -> Sample:
    """With support vectors or as a linear model, with and without probabilities."""
    classes = d.one([2, 2, 3, 4])
    features = d.one([1, 2, 4, 9])
    pairs = classes * (classes - 1) // 2
    attributes: dict[str, Json] = kernel(d) | {"post_transform": d.one(["NONE"] * 6 + POSTS[2:])}
    if d.chance(0.85):
        per_class = [d.between(1, 5) for _ in range(classes)]
        vectors = sum(per_class)
        attributes |= {"vectors_per_class": per_class, "support_vectors": d.weights(vectors * features)}
        attributes |= {"coefficients": d.weights((classes - 1) * vectors), "rho": d.weights(pairs)}
        if d.chance(0.45):
            attributes |= {"prob_a": [-abs(each) - 0.1 for each in d.weights(pairs)], "prob_b": d.weights(pairs)}
    else:
        attributes |= {"coefficients": d.weights(classes * features), "rho": d.weights(1)}
    attributes |= label_attribute(d.labels(classes), "classlabels_strings", "classlabels_ints")
    kind = d.one(["float32"] * 6 + ["float64", "int64", "int32"])
    level = ODD if d.chance(0.3) else CALM
    asked = feeds(d, features, kind, level)
    return sample(d, "SVMClassifier", asked, ("label", "scores"), domain=ML, attributes=attributes)


@family(2)
def svm_regressor(d: Draw) -> Sample:
    """Support vectors, none, and the form for outliers."""
    features, vectors = d.one([1, 2, 4, 9]), d.between(1, 9)
    attributes: dict[str, Json] = kernel(d) | {"post_transform": d.one([None, None, "NONE", *POSTS[2:]]), "rho": d.weights(1)}
    if d.chance(0.85):
        attributes |= {
            "n_supports": vectors,
            "support_vectors": d.weights(vectors * features),
            "coefficients": d.weights(vectors),
        }
    else:
        attributes |= {"n_supports": 0, "coefficients": d.weights(features)}
    attributes["one_class"] = d.one([None, None, 0, 1])
    level = ODD if d.chance(0.3) else CALM
    return sample(d, "SVMRegressor", feeds(d, features, "float32", level), domain=ML, attributes=attributes)


@family()
def zip_map(d: Draw) -> Sample:
    """The maps' keys come sorted."""
    labels = d.labels(d.between(1, 5))
    attributes = label_attribute(labels, "classlabels_strings", "classlabels_int64s")
    if d.chance(0.06):
        found: list[Feed] = [{"X": d.floats((len(labels),))}]
    else:
        # A number of columns that is not that of the labels is refused at run time.
        columns = len(labels) + (1 if d.chance(0.08) else 0)
        found = [{"X": d.floats((count, columns))} for count in d.batches()]
    return sample(d, "ZipMap", found, domain=ML, attributes=attributes)


@family(1.5)
def normalizer(d: Draw) -> Sample:
    """Every norm and every type."""
    kind = d.one(["float32", "float32", *NUMBERS])
    found = [{"X": d.data(kind, (count, d.one([1, 2, 5])), ODD)} for count in d.batches()]
    if d.chance(0.1):
        found = [{"X": d.data(kind, d.shape(1, 3), ODD)}]
    return sample(d, "Normalizer", found, domain=ML, attributes={"norm": d.one([None, "MAX", "L1", "L2", "L2"])})


@family(1.5)
def scaler(d: Draw) -> Sample:
    """One pair of numbers for all columns, or one for each."""
    kind, columns = d.one(["float32", "float32", *NUMBERS]), d.one([1, 2, 5])
    count = 1 if d.chance(0.25) else columns
    attributes: dict[str, Json] = {"offset": d.weights(count), "scale": d.weights(count)}
    if d.chance(0.06):
        attributes[d.one(["offset", "scale"])] = None
    found = [{"X": d.data(kind, (rows, columns))} for rows in d.batches()]
    if d.chance(0.1):
        found = [{"X": d.data(kind, (*d.shape(0, 2), columns))}]
    return sample(d, "Scaler", found, domain=ML, attributes=attributes)


@family(1.5)
def imputer(d: Draw) -> Sample:
    """What is replaced is NaN, or a number."""
    columns = d.one([1, 2, 5])
    count = 1 if d.chance(0.3) else columns
    shape = (columns,) if d.chance(0.06) else None
    if d.chance(0.3):
        attributes: dict[str, Json] = {"imputed_value_int64s": [int(each) for each in d.integers((count,), level=CALM)]}
        attributes["replaced_value_int64"] = d.between(-1, 1)
        kind = "int64" if d.chance(0.95) else "int32"
    else:
        attributes = {"imputed_value_floats": d.weights(count)}
        replaced = d.one([float("nan"), float("nan"), 0.0, -0.0, 1.0, float("inf")])
        attributes["replaced_value_float"] = replaced if d.chance(0.9) else None
        kind = "float32" if d.chance(0.95) else "float64"
    found = [{"X": d.data(kind, shape or (rows, columns), ODD)} for rows in d.batches()]
    return sample(d, "Imputer", found[:1] if shape else found, domain=ML, attributes=attributes)


@family()
def binarizer(d: Draw) -> Sample:
    """NaN is refused."""
    value = d.one([None, 0.0, -0.0, 0.5, -1.0, float("inf")])
    level = ODD if d.chance(0.3) else CALM
    kind = "float32" if d.chance(0.95) else d.one(NUMBERS)
    found = [{"X": d.data(kind, (rows, 3), level)} for rows in d.batches()]
    if d.chance(0.15):
        found = [{"X": d.data(kind, d.shape(0, 3), level)}]
    return sample(d, "Binarizer", found, domain=ML, attributes={"threshold": value})


@family()
def feature_vectorizer(d: Draw) -> Sample:
    """Columns side by side; a size that is not the input's cuts it, or fills it with zeros."""
    kind, count = d.one(NUMBERS), d.between(1, 4)
    sizes = [d.between(1, 3) for _ in range(count)]
    stated = [max(1, size + d.between(-1, 1)) if d.chance(0.2) else size for size in sizes]
    found = []
    # Without rows, the runtime ends, or answers what the memory held.
    for rows in (each for each in d.batches() if each):
        found.append({f"X{position}": d.data(kind, (rows, size)) for position, size in enumerate(sizes)})
    if d.chance(0.1):
        found = [{f"X{position}": d.data(kind, (size,)) for position, size in enumerate(sizes)}]
    return sample(d, "FeatureVectorizer", found, domain=ML, attributes={"inputdimensions": np.array(stated).tolist()})
