"""Writes the chart's README out of the comments of values.yaml; `--check` only compares."""

import sys
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parent.parent.parent / "helm/onstage"

HEAD = """# The chart onstage

{description}. Helm 3 and 4, Kubernetes 1.27 or newer; [kubernetes.md](../../docs/kubernetes.md) leads from nothing to a served, scaled
and watched model. `ci/` has sets of values to start from. This page is written by `tests/packaging/chart_readme.py`.

<!-- not executable: needs a cluster -->
```console
$ helm install models helm/onstage --set config.registry.uri=http://mlflow:5000 --set 'config.registry.follow={{@champion}}'
$ helm test models
```

## Values

| key | default | |
|---|---|---|
"""


def main():
    values = list(described())
    # A table whose values have rows of their own is told by them.
    tables = {key.rpartition(".")[0] for key, _, _ in values}
    rows = [f"| `{key}` | {'' if key in tables else shown(default)} | {text} |" for key, default, text in values]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    page = HEAD.format(description=chart["description"]) + "\n".join(rows) + "\n"
    file = CHART / "README.md"
    if "--check" not in sys.argv:
        file.write_text(page)
    elif not file.is_file() or file.read_text() != page:
        sys.exit(f"{file} is not what the comments of values.yaml say: run `python {sys.argv[0]}`")


def described():
    """Key, default and text of each value; every value needs a text, or is a table of such."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    path, comment = [], []
    for line in lines:
        text = line.strip()
        indent = (len(line) - len(line.lstrip())) // 2
        if text.startswith("# -- "):
            comment = [text.removeprefix("# -- ")]
        elif text.startswith("# ") and comment:
            comment.append(text.removeprefix("# "))
        elif text and not text.startswith(("#", "- ")):
            path = [*path[:indent], text.split(":")[0]]
            if comment:
                yield ".".join(path), found(values, path), " ".join(comment).replace("|", "\\|")
            comment = []


def found(values, path):
    for key in path:
        values = values[key]
    return values


def shown(default):
    if default in ("", None):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, (dict, list)):
        text = yaml.safe_dump(default, default_flow_style=True, width=10_000).strip()
        return f"`{text}`" if len(text) <= 60 else "see values.yaml"
    return f"`{default}`"


main()
