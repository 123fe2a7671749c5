"""Every value of the chart: what Kubernetes takes is rendered, what it would refuse is refused by the chart, in a sentence."""

import json
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
import yaml
from api_rules import Found, complaints, metadata, quantity, service
from chart_table import GATE, INGRESS, KEDA, POLICY, ROWS, SOURCES, TOGETHER
from objects import parse
from schemas import validate
from shell import CHART, ROOT, run

PAGES = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute"}
# What a mistake in a template looks like, where a sentence should be.
STUMBLES = ["error calling", "nil pointer", "wrong type", "YAML parse error", "can't evaluate", "incompatible type", "error converting"]


def nested(path, value):
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def merged(first, second):
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return second
    return {**first, **{key: merged(first[key], value) if key in first else value for key, value in second.items()}}


@pytest.fixture(scope="module")
def answer(helm, tmp_path_factory):
    """What the chart says to values: objects, or the refusal."""
    folder = tmp_path_factory.mktemp("values")

    def answer(values, *arguments, release="onstage"):
        file = folder / f"{random.getrandbits(64):x}.json"
        file.write_text(json.dumps(values, ensure_ascii=False))
        said = helm.__wrapped__("template", release, CHART, "-n", "models", "--kube-version", "1.37.0", "-f", file, *arguments, fails=None)
        file.unlink()
        refused = re.search(r"(?m)^Error: (.*)", said, re.DOTALL)
        return (None, refused[1]) if refused else (parse(said), "")

    return answer


def check_refusal(text):
    assert not any(stumble in text for stumble in STUMBLES), text
    assert text.startswith(("values don't meet the specifications", "execution error at (onstage/templates/deployment.yaml")), text


def check_objects(objects):
    assert objects
    for found in objects:
        if found["kind"] not in PAGES:
            validate(found)
    assert not complaints(objects)


@pytest.mark.parametrize("row", ROWS, ids=[row.value for row in ROWS])
def test_a_value(answer, row):
    name = re.sub(r".*\.", "", row.value)

    def good(value):
        objects, refused = answer(merged(row.beside, nested(row.value, value)))
        assert objects, f"{row.value}: {value!r:.200}: {refused}"
        check_objects(objects)

    def bad(value):
        objects, refused = answer(merged(row.beside, nested(row.value, value)))
        assert objects is None, f"{row.value}: {value!r:.200} is taken"
        check_refusal(refused)
        assert name in refused, f"{row.value}: {value!r:.200}: {refused}"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(good, row.good))
        list(pool.map(bad, row.bad))


@pytest.mark.parametrize(("values", "sentence"), TOGETHER, ids=[sentence for _, sentence in TOGETHER])
def test_values_together(answer, values, sentence):
    objects, refused = answer(values)
    assert objects is None
    check_refusal(refused)
    assert sentence in refused, refused


def leaves(values, path=""):
    for key, value in values.items():
        here = f"{path}.{key}".lstrip(".")
        yield from leaves(value, here) if isinstance(value, dict) and value else [here]


def without(values, schema):
    """Null for every value that need not be there, as `key:` with nothing behind it is."""
    needed = schema.get("required", [])
    found = {}
    for key, value in values.items():
        part = schema.get("properties", {}).get(key, {})
        if isinstance(value, dict) and (key in needed or part.get("required")):
            found[key] = without(value, part)
        elif key not in needed:
            found[key] = None
    return found


SATURATION = {"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": 0, "targetSaturation": "700m"}}
MONITORS = [{"metrics": {name: {"enabled": True}}} for name in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboard")]


@pytest.mark.parametrize("switch", [{}, POLICY, INGRESS, GATE, KEDA, SATURATION, *MONITORS], ids=str)
def test_what_need_not_be_there_may_be_null(answer, switch):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    nulls = without(values, json.loads((CHART / "values.schema.json").read_text()))
    assert nulls["commonLabels"] is nulls["affinity"] is nulls["secretMounts"] is nulls["networkPolicy"]["from"] is None
    objects, refused = answer(merged(nulls, switch))
    assert objects, refused
    check_objects(objects)


def test_every_value_has_a_row():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = [row.value for row in ROWS]
    assert len(rows) == len(set(rows))
    missing = [leaf for leaf in leaves(values) if not any(leaf == row or leaf.startswith(f"{row}.") for row in rows)]
    assert not missing
    assert {row.source for row in ROWS} == set(SOURCES)
    assert all(row.good and row.bad for row in ROWS)


def test_every_rule_of_texts_has_a_value_and_a_kind():
    rules = yaml.safe_load((CHART / "files/rules.yaml").read_text())
    assert {kind for _, kind in rules["values"]} == set(rules["kinds"])
    rows = [row.value for row in ROWS]
    for path, _ in rules["values"]:
        plain = re.sub(r"\.(\[\]|\{\}|\{key\}).*", "", path)
        assert any(plain == row or plain.startswith(f"{row}.") for row in rows), path


def test_the_types_of_kubernetes_are_in_the_schema():
    run(sys.executable, ROOT / "tests/packaging/chart_schema.py", "--check")


def test_the_rules_of_the_api_find_what_is_surely_wrong():
    found = Found()
    wrong = {"metadata": {"name": "1a", "namespace": "b", "labels": {"a": "b/c"}}, "spec": {"selector": {"a": "b"}, "ports": [{"name": "a", "port": 0}] * 2}}
    metadata(found, wrong, "Service")
    service(found, wrong)
    assert len(found) == 6, found
    with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
        validate({"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {"port": 1}})
    assert quantity("1Ki") == 1024 and quantity("1k") == 1000 and quantity("1e3") == 1000 and quantity("1.5") and quantity("x") is None


# -- any values together

# Each takes seconds: `make chart-combinations` tries 300.
SEED, COMBINATIONS = 20260730, int(os.environ.get("ONSTAGE_COMBINATIONS", "60"))


def combination(chance):
    """Values of several rows, mostly good ones: one in fourteen is wrong, and they may contradict each other."""
    values = {}
    for row in chance.sample(ROWS, chance.randint(2, 14)):
        is_good = chance.random() < 0.93
        values = merged(values, merged(row.beside, nested(row.value, chance.choice(row.good if is_good else row.bad))))
    return json.loads(json.dumps(values))


def test_any_combination_is_valid_or_refused(answer):
    chance = random.Random(SEED)
    combinations = [combination(chance) for _ in range(COMBINATIONS)]

    def tried(values):
        objects, refused = answer(values)
        try:
            check_objects(objects) if objects else check_refusal(refused)
        except Exception as error:
            raise AssertionError(f"{yaml.safe_dump(values)}\n{error}") from error
        return objects is not None

    with ThreadPoolExecutor(4) as pool:
        rendered = sum(pool.map(tried, combinations))
    print(f"{rendered} of {COMBINATIONS} were rendered")
    # Neither side may be nothing.
    assert COMBINATIONS // 6 < rendered < COMBINATIONS - COMBINATIONS // 6


def test_both_majors_answer_alike(tools, tmp_path):
    chance = random.Random(SEED + 1)
    for number in range(20):
        file = tmp_path / "values.yaml"
        file.write_text(json.dumps(combination(chance)))
        said = []
        for major in ("helm3", "helm4"):
            command = [tools / major / "helm/helm", "template", "onstage", CHART, "--kube-version", "1.37.0", "-f", file]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=60)
            said.append((done.returncode == 0, parse(done.stdout) if done.returncode == 0 else None))
        assert said[0] == said[1], number
