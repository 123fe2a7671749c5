"""The wheel: built by maturin, installed into a fresh environment with nothing else, and used as data scientists would."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from shell import IRIS, ROOT, environment, free_port, predicts, process, ready, run


def without_compiling(directory, binary):
    """The environment in which maturin takes this binary for what cargo compiles."""
    (directory / "path").mkdir()
    stand_in = directory / "path/cargo"
    stand_in.symlink_to(ROOT / "tests/packaging/compiled_cargo.py")
    compiled = shutil.copy(binary, directory / "path/onstage")
    changes = {"REAL_CARGO": shutil.which("cargo"), "COMPILED": compiled, "CARGO": stand_in, "CARGO_TARGET_DIR": directory / "target"}
    return environment(PATH=f"{directory}/path:{sys.prefix}/bin:{os.environ['PATH']}", **changes)


def programs(wheel):
    """The names of the scripts in a wheel that may be run."""
    with zipfile.ZipFile(wheel) as archive:
        return {Path(info.filename).name for info in archive.infolist() if "/scripts/" in info.filename and info.external_attr >> 16 & 0o111}


def test_the_source_archive_gives_a_wheel_with_both_programs(context, tmp_path):
    env = without_compiling(tmp_path, context / "dist/onstage")
    run(f"{sys.prefix}/bin/maturin", "sdist", "--out", tmp_path, cwd=ROOT, env=env)
    (archive,) = tmp_path.glob("onstage-*.tar.gz")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-cache-dir"]
    run(*build, "--wheel-dir", tmp_path, archive, env=env)
    (wheel,) = tmp_path.glob("onstage-*.whl")
    assert programs(wheel) == {"onstage", "onstage-convert"}


@pytest.fixture(scope="module")
def venv(context, tmp_path_factory):
    """An environment with the wheel, which maturin makes of the binary to test, and what it depends on."""
    directory = tmp_path_factory.mktemp("wheel")
    env = without_compiling(directory, context / "dist/onstage")
    run(f"{sys.prefix}/bin/maturin", "build", "--locked", "--out", directory, cwd=ROOT, env=env)
    # maturin finds pyo3 in the graph of dependencies, where jiter names it without using it, and binds the wheel to one version of Python.
    run(sys.executable, "-m", "wheel", "tags", "--remove", "--python-tag", "py3", "--abi-tag", "none", *directory.glob("*.whl"))
    (wheel,) = directory.glob("onstage-*.whl")
    # Bound to no version of Python.
    assert re.fullmatch(r"onstage-[0-9.]+-py3-none-(manylinux|linux|macosx).*\.whl", wheel.name), wheel
    assert programs(wheel) == {"onstage", "onstage-convert"}
    run(sys.executable, "-m", "venv", directory / "venv")
    run(directory / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel)
    return directory / "venv"


def test_the_engine_comes_with_it_and_is_found_without_activation(venv):
    said = run(venv / "bin/onstage", "doctor", env=environment(HOME=venv, VIRTUAL_ENV=""))
    assert re.search(rf"{venv}/lib/python3\.\d+/site-packages/onnxruntime/capi/libonnxruntime\.so\.\S+", said), said
    assert "loaded" in said


def test_the_python_package_comes_with_it_and_imports_nothing_heavy(venv):
    said = run(venv / "bin/python", "-c", "import sys, onstage; print(onstage.Client, 'numpy' in sys.modules, 'mlflow' in sys.modules)")
    assert "onstage._client.Client" in said and "False False" in said, said


def test_the_converter_names_the_extra_that_is_missing(venv, tmp_path):
    (tmp_path / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    done = subprocess.run([venv / "bin/onstage-convert", tmp_path, "-o", tmp_path / "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done
    assert "hint: pip install 'onstage[sklearn]'" in done.stderr, done.stderr


def test_it_serves_by_onnx_runtime(venv, tmp_path):
    port = free_port()
    arguments = ["serve", IRIS.parent / "penguins", "--port", port, "--grpc-port", "0", "--engine", "onnxruntime"]
    with process(venv / "bin/onstage", *arguments, log=tmp_path / "log", env=environment(HOME=tmp_path, VIRTUAL_ENV="")):
        ready(f"127.0.0.1:{port}")
    assert "on onnxruntime" in (tmp_path / "log").read_text()


def test_it_serves_the_example_with_the_default_engine(venv, tmp_path):
    port = free_port()
    with process(venv / "bin/onstage", "serve", IRIS, "--port", port, "--grpc-port", "0", log=tmp_path / "log", env=environment(HOME=tmp_path)):
        ready(f"127.0.0.1:{port}")
        assert predicts(f"127.0.0.1:{port}")
