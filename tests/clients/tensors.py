"""An array of each datatype, and the model that gives its rows twice."""

import ml_dtypes
import numpy as np

# Datatype of the protocol: model, array.
TENSORS = {
    "BOOL": ("twice_bool", np.array([[True, False], [False, False]])),
    "UINT8": ("twice_uint8", np.array([[0, 255]], np.uint8)),
    "UINT16": ("twice_uint16", np.array([[0, 65535]], np.uint16)),
    "UINT32": ("twice_uint32", np.array([[0, 2**32 - 1]], np.uint32)),
    "UINT64": ("twice_uint64", np.array([[0, 2**64 - 1]], np.uint64)),
    "INT8": ("twice_int8", np.array([[-128, 127]], np.int8)),
    "INT16": ("twice_int16", np.array([[-(2**15), 2**15 - 1]], np.int16)),
    "INT32": ("twice_int32", np.array([[-(2**31), 2**31 - 1]], np.int32)),
    "INT64": ("twice_int64", np.array([[-(2**63), 2**63 - 1]], np.int64)),
    "FP16": ("twice_float16", np.array([[0.5, -65504.0], [6e-8, 1.0]], np.float16)),
    "BF16": ("twice_bfloat16", np.array([[0.5, -3.0], [1e30, 1.0]], ml_dtypes.bfloat16)),
    "FP32": ("twice_float32", np.array([[0.1, -3.4e38], [1e-45, 0.0]], np.float32)),
    "FP64": ("twice_float64", np.array([[0.1, 1e300]], np.float64)),
    "BYTES": ("twice_str", np.array([["", "grün \U0001f642"], ["a\nb", "x" * 300]], np.object_)),
}

# These have no form in JSON.
BINARY_ONLY = {"FP16", "BF16"}


def twice(datatype):
    """What the model of this datatype answers."""
    array = TENSORS[datatype][1]
    if datatype == "BYTES":
        array = np.array([[text.encode() for text in row] for row in array], np.object_)
    return np.concatenate([array, array])
