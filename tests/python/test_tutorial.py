"""What `docs/tutorials/your-model.md` shows is what happens: its program and its commands, typed in."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, free_port

PAGE = (ROOT / "docs" / "tutorials" / "your-model.md").read_text()


def commands():
    """The lines behind `$ ` of the blocks that this test runs, continued lines joined."""
    found = []
    for block in re.findall(r"<!-- tested by: tests/python/test_tutorial.py -->\n```console\n(.*?)```", PAGE, re.DOTALL):
        found += [line[2:] for line in block.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
    return found


def test_the_tutorial(registry, binary, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "onstage").symlink_to(binary)
    (programs / "python").symlink_to(sys.executable)
    convert = programs / "onstage-convert"
    convert.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m onstage._convert.command \"$@\"\n")
    convert.chmod(0o755)
    (tmp_path / "train.py").write_text(re.search(r"```python\n(import mlflow\n.*?)```", PAGE, re.DOTALL).group(1))
    port = free_port()
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), *filter(None, sys.path)]),
    }

    def shell(line):
        """One line, with the addresses of this test."""
        line = line.replace("http://127.0.0.1:5000", registry).replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        line = line.replace("python train.py", f"'{sys.executable}' train.py")
        return f"export MLFLOW_TRACKING_URI={registry}; {line}"

    lines = commands()
    assert lines[0].startswith("mlflow server")  # It runs already.
    before = lines[1 : lines.index("onstage serve models:/churn@champion")]
    said = ""
    for line in before:
        done = subprocess.run(shell(line), shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    assert re.search(r"parity on 1005 rows: 1005 of 1005 labels agree, largest difference \S+, \d+ rows at cut points", said)
    assert "wrote models:/churn/2" in said
    served = subprocess.Popen(
        shell(f"exec onstage serve models:/churn@champion --port {port} --no-grpc"),
        shell=True,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert any("Try it" in line for line in served.stdout)
        answer = subprocess.check_output(shell(lines[-1]), shell=True, cwd=tmp_path, text=True)
        assert answer.count('"label": "') == 2, answer
    finally:
        served.send_signal(signal.SIGTERM)
        served.wait(30)
        served.stdout.close()


def test_the_page_is_where_the_readers_are_sent():
    for page in ("README.md", "docs/guides/convert.md"):
        assert "tutorials/your-model.md" in (ROOT / page).read_text(), page
    assert Path(ROOT / "docs" / "guides" / "convert.md").is_file()
