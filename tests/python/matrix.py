"""Runs the tests of the Python package on other versions of Python and of the libraries, and writes `matrix/RESULTS.md`.

python tests/python/matrix.py --environments .venv-matrix --binary target/debug/onstage [older newest torch]
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = HERE / "matrix" / "RESULTS.md"
# For each set the versions of Python that it wants, the best first.
SETS = {"older": ["3.10"], "newest": ["3.14", "3.13", "3.12"], "torch": []}
SHOWN = ("mlflow", "pandas", "numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx", "onnxmltools", "lightgbm", "xgboost")
SHOWN += ("xgboost-cpu", "catboost", "torch")
HEAD = """# The Python package on other versions

Written by `make converted-matrix`; each row is one run of `tests/python` on the versions of a file in this directory.

| set | Python | libraries | passed | failed | skipped | seconds |
|---|---|---|---|---|---|---|
"""


def interpreter(wanted):
    """The first of the wanted versions of Python that is there, or this one."""
    for version in wanted:
        for program in (f"python{version}", *sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))):
            found = shutil.which(program)
            if found and subprocess.run([found, "-c", "pass"], capture_output=True, check=False).returncode == 0:
                return found
    return sys.executable


def environment(name, home):
    """The Python of an environment with the packages of a set; it is kept until they change."""
    wanted = [HERE / "matrix" / f"{name}{part}.txt" for part in ("", "-alone")]
    text = "".join(path.read_text() for path in wanted if path.is_file())
    place, program = home / name, home / name / "bin" / "python"
    stamp = place / ".installed"
    if stamp.is_file() and stamp.read_text() == text:
        return program
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([interpreter(SETS[name]), "-m", "venv", place], check=True)
    install = [program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run([*install, "-r", wanted[0]], check=True)
    if wanted[1].is_file():
        subprocess.run([*install, "--no-deps", "-r", wanted[1]], check=True)
    stamp.write_text(text)
    return program


def versions(program):
    """What the environment holds, as `name version`."""
    listed = subprocess.check_output(
        [program, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"], text=True
    )
    found = dict(line.split("==") for line in listed.splitlines() if "==" in line)
    return ", ".join(f"{name} {found[name]}" for name in SHOWN if name in found)


def row(name, program, binary):
    """Runs the tests; gives the row of the table, and whether all passed."""
    command = [program, "-B", "-m", "pytest", "-c", HERE / "pytest.ini", "--rootdir", HERE, "--binary", binary, HERE]
    done = subprocess.run(
        command, cwd=ROOT, text=True, capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    print(done.stdout[-6000:], done.stderr[-2000:], sep="\n")
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    count = {word: number for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    seconds = re.search(r"in ([\d.]+)s", last)
    python = subprocess.check_output([program, "-c", "import platform; print(platform.python_version())"], text=True).strip()
    failed = int(count.get("failed", 0)) + int(count.get("error", 0))
    cells = [name, python, versions(program), count.get("passed", "0"), str(failed), count.get("skipped", "0")]
    cells.append(f"{float(seconds[1]):.0f}" if seconds else "?")
    return f"| {' | '.join(cells)} |", done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, required=True, help="where they are made and kept")
    parser.add_argument("--binary", type=Path, required=True, help="the `onstage` to test")
    parser.add_argument("sets", nargs="*", metavar="SET", help=", ".join(SETS))
    given = parser.parse_args()
    before = RESULTS.read_text().splitlines() if RESULTS.is_file() else []
    rows = {line.split("|")[1].strip(): line for line in before if re.match(rf"\| ({'|'.join(SETS)}) \|", line)}
    fine = True
    for name in given.sets or SETS:
        rows[name], passed = row(name, environment(name, given.environments.absolute()), given.binary.resolve())
        fine = fine and passed
        RESULTS.write_text(HEAD + "".join(f"{rows[name]}\n" for name in SETS if name in rows))
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
