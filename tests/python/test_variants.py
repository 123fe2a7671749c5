"""A hundred models that nobody chose: each is right on the server, or refused for a reason that is known here."""

import logging

import numpy as np
import onstage
import pytest
from rule import ask, assert_alike
from variants import variant

COUNT = 100
FORMS = ("json", "csv", "parquet")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """What each variant is, its model and rows, and a server of all that were converted."""
    home = tmp_path_factory.mktemp("variants")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    found, refused = {}, {}
    for number in range(COUNT):
        what, model, rows = variant(number)
        try:
            onstage.convert(model, rows, output=home / f"v{number}")
            found[number] = (what, model, rows)
        except onstage.ConversionError as error:
            refused[number] = f"{what}: {error}"
    with onstage.serve(home) as client:
        yield client.url, found, refused


@pytest.mark.parametrize("number", range(COUNT))
def test_a_variant_is_served_right(served, tmp_path, number):
    url, found, refused = served
    if number in refused:
        pytest.skip(refused[number].splitlines()[0])
    what, model, rows = found[number]
    form = "json" if isinstance(rows, np.ndarray) else FORMS[number % 3]
    rows = rows.reset_index(drop=True) if hasattr(rows, "reset_index") else rows
    try:
        assert_alike(model, rows, ask(url, f"v{number}", rows, form, tmp_path))
    except Exception as error:
        raise AssertionError(f"{what}, by {form}") from error


def test_few_are_refused(served):
    _, _, refused = served
    assert len(refused) <= 3, refused


def test_a_single_row_is_enough(served):
    url, found, _ = served
    for number, (_, model, rows) in list(found.items())[:20]:
        one = rows[:1]
        got = onstage.Client(url, model=f"v{number}").predict(one)
        assert len(next(iter(got.values())) if isinstance(got, dict) else got) == 1, (number, model)
