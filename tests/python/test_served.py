"""Models of MLflow's flavors, converted by URI, registered, and served by alias, against their own libraries."""

import mlflow
import onstage
import pytest
from mlflow.models import infer_signature
from models import MODELS
from onstage._serve import serve as start
from rule import ask, assert_alike


def log(flavor, model, rows, name):
    """Logs a model as people do, with five rows as the example."""
    options = {"serialization_format": "cloudpickle"} if flavor == "sklearn" else {}
    signature = infer_signature(rows)
    with mlflow.start_run():
        getattr(mlflow, flavor).log_model(
            model,
            name="model",
            signature=signature,
            input_example=rows.head(5) if flavor != "lightgbm" else None,
            registered_model_name=name,
            pip_requirements=[],
            **options,
        )


@pytest.fixture(scope="module")
def served(registry):
    """Every model, converted by its URI and served by its alias: the client's address, models and rows."""
    trained, client = {}, mlflow.MlflowClient()
    for name, (flavor, train) in MODELS.items():
        trained[name] = train()
        log(flavor, *trained[name], name)
        uri = onstage.convert(f"models:/{name}/1", register=name)
        assert uri == f"models:/{name}/2"
        client.set_registered_model_alias(name, "champion", "2")
    with start(*(f"models:/{name}@champion" for name in MODELS), registry=registry) as running:
        yield running.url, trained


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_answers_are_the_librarys(served, tmp_path, name, form):
    url, trained = served
    model, rows = trained[name]
    assert_alike(model, rows, ask(url, name, rows, form, tmp_path))


def test_the_version_tells_what_it_was_made_of(served):
    version = mlflow.MlflowClient().get_model_version("forest", "2")
    assert version.tags["onstage.converted_from"] == "models:/forest/1"
