"""Modules of PyTorch, where it is installed: `make converted-matrix` brings it."""

import mlflow
import numpy as np
import onstage
import pytest
from mlflow.models import infer_signature

torch = pytest.importorskip("torch")

ROWS = np.random.default_rng(3).normal(size=(3000, 4)).astype(np.float32)


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3), torch.nn.Softmax(dim=1)).eval()


def wanted(module, rows):
    with torch.no_grad():
        return module(torch.from_numpy(rows)).numpy()


@pytest.mark.parametrize("form", ["pickle", None])
def test_a_module_of_mlflow_is_served(registry, form):
    module = net()
    name = f"net-{form}"
    options = {"serialization_format": form} if form else {}
    with mlflow.start_run():
        mlflow.pytorch.log_model(
            module,
            name="model",
            signature=infer_signature(ROWS[:5], wanted(module, ROWS[:5])),
            input_example=ROWS[:5],
            registered_model_name=name,
            pip_requirements=[],
            **options,
        )
    uri = onstage.convert(f"models:/{name}/1", register=name)
    with onstage.serve(uri, registry=registry) as client:
        found = client.predict(ROWS)
    np.testing.assert_allclose(np.array(found["output"]), wanted(module, ROWS), atol=1e-5)


@pytest.mark.parametrize("script", [True, False])
def test_a_file_of_a_module_is_converted(tmp_path, script):
    module = net()
    path = tmp_path / "net.pt"
    if script:
        torch.jit.script(module).save(str(path))
    else:
        torch.save(module, path)
    np.save(tmp_path / "rows.npy", ROWS[:100])
    package = onstage.convert(path, tmp_path / "rows.npy", output=tmp_path / "package")
    found = mlflow.pyfunc.load_model(package).predict(ROWS)
    np.testing.assert_allclose(found["output"], wanted(module, ROWS), atol=1e-5)


def test_a_module_without_rows_is_refused(tmp_path):
    with pytest.raises(onstage.ConversionError, match="neither a signature nor an example"):
        onstage.convert(net(), output=tmp_path / "package")


def test_a_module_that_returns_two_tensors_is_refused(tmp_path):
    class Two(torch.nn.Module):
        def forward(self, rows):
            return rows, rows * 2

    with pytest.raises(onstage.ConversionError, match="expected one tensor"):
        onstage.convert(Two().eval(), ROWS[:5], output=tmp_path / "package")
