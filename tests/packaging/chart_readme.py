"""Writes the chart's README out of the comments of values.yaml; `--check` only compares."""

import re
import sys
from pathlib import Path

import yaml
from chart_table import ROWS, SOURCES, TOGETHER

CHART = Path(__file__).resolve().parent.parent.parent / "helm/onstage"

HEAD = """# The chart onstage

{description}. Helm 3 and 4, Kubernetes 1.27 or newer; [kubernetes.md](../../docs/guides/kubernetes.md) leads from nothing to a served, scaled
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


RULES = """
## Rules

What each value may be. The chart refuses the rest in a sentence, before anything reaches the cluster. Each example below is rendered by Helm 3 and 4, and what is
taken is held against the schemas and the rules of Kubernetes (`tests/packaging/chart_values.py`), as are 300 random combinations. Texts, numbers and the words
`on`, `no`, `007` and `1e3` stay what they are: every text is rendered in quotes where YAML would read something else.

| value | rule | taken | refused | source |
|---|---|---|---|---|
"""

TOGETHER_HEAD = """
Values that contradict each other:

| values | the chart says |
|---|---|
"""


def rules():
    for row in ROWS:
        taken, refused = (", ".join(f"`{short(each)}`" for each in examples[:3]) for examples in (row.good, row.bad))
        yield f"| `{row.value}` | {cell(row.rule)} | {taken} | {refused} | {SOURCES[row.source]} |"
    yield TOGETHER_HEAD.rstrip("\n")
    for values, sentence in TOGETHER:
        yield f"| `{short(values, 130)}` | … {cell(sentence)} … |"


class Dumper(yaml.SafeDumper):
    """Puts quotes around all that Helm would read as a number."""


Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+\Z"), list("-+0123456789"))


def short(value, longest=60):
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False).removesuffix("...\n").strip()
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return cell(text).replace("`", "'")


def cell(text):
    return text.replace("|", "\\|")


def main():
    values = list(described())
    # A table whose values have rows of their own is told by them.
    tables = {key.rpartition(".")[0] for key, _, _ in values}
    rows = [f"| `{key}` | {'' if key in tables else shown(default)} | {text} |" for key, default, text in values]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    page = HEAD.format(description=chart["description"]) + "\n".join(rows) + "\n" + RULES + "\n".join(rules()) + "\n"
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
