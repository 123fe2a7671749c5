"""data.py WHEEL OUT: tables of NannyML's wheel as CSV, and for each a graph that takes its columns and answers its score."""

import sys
from pathlib import Path

import onnx
import pandas as pd
from onnx import TensorProto, helper

# Columns that are kept, and the score; what the model should have said is the label.
CAR_LOAN = [
    "car_value",
    "salary_range",
    "debt_to_income_ratio",
    "loan_length",
    "repaid_loan_on_prev_car",
    "size_of_downpayment",
    "driver_tenure",
]


def elements(column):
    if column.dtype == bool:
        return TensorProto.BOOL
    return TensorProto.FLOAT if pd.api.types.is_numeric_dtype(column) else TensorProto.STRING


def graph(frame, columns, score, path):
    """Takes each column by its name, and gives the score back."""
    inputs = [helper.make_tensor_value_info(name, elements(frame[name]), ["N"]) for name in [*columns, score]]
    output = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N"])
    node = helper.make_node("Identity", [score], ["answer"])
    made = helper.make_model(
        helper.make_graph([node], "score", inputs, [output]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(made, path)


def car_loan(data, out):
    reference = pd.read_csv(data / "synthetic_car_loan_reference.csv")
    analysis = pd.read_csv(data / "synthetic_car_loan_analysis.csv")
    score = "y_pred_proba"
    graph(reference, CAR_LOAN, score, out / "car_loan.onnx")
    reference[[*CAR_LOAN, score, "repaid"]].to_csv(out / "car_loan_reference.csv", index=False)
    half = len(analysis) // 2
    for name, part in (("first", analysis[:half]), ("last", analysis[half:])):
        part[[*CAR_LOAN, score]].to_csv(out / f"car_loan_{name}.csv", index=False)


def employment(data, out):
    """2015 is the reference, and the three years after it are one window each. Categories are numbers with names: texts."""
    reference = pd.read_parquet(data / "employment_MA_reference.pq")
    analysis = pd.read_parquet(data / "employment_MA_analysis.pq")
    score = "predicted_probability"
    columns = [name for name in reference if name not in {"id", "employed", "year", "prediction", score}]
    for frame in (reference, analysis):
        for name in columns:
            if isinstance(frame[name].dtype, pd.CategoricalDtype):
                frame[name] = "c" + frame[name].astype(str)
    graph(reference, columns, score, out / "employment.onnx")
    reference[[*columns, score, "employed"]].to_csv(out / "employment_reference.csv", index=False)
    for year, part in analysis.groupby("year"):
        part[[*columns, score]].to_csv(out / f"employment_{year}.csv", index=False)


if __name__ == "__main__":
    wheel, out = Path(sys.argv[1]), Path(sys.argv[2])
    car_loan(wheel / "nannyml/datasets/data", out)
    employment(wheel / "nannyml/datasets/data", out)
