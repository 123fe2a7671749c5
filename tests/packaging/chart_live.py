"""The chart beside what runs already: revisions keep their configuration, no upgrade takes pods away or leaves half of itself behind."""

import itertools
import json
import re
import shutil
import tomllib

import pytest
import yaml
from cluster import Cluster
from objects import CONFIGURATION, configuration, files, of_kind, render, template, the
from shell import CHART


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as running:
        yield running


@pytest.fixture
def fresh(helm):
    """Helm whose answers are not remembered, as the cluster changes between two."""
    return helm.__wrapped__


def sets(*settings):
    return [part for setting in settings for part in ("--set", setting)]


# -- the configuration of a revision


class Revisions:
    """A Deployment as its controller sees it: a ReplicaSet for each template, and which of them is wanted."""

    def __init__(self):
        self.replica_sets = []
        # What other objects of the release hold: a pod that starts late reads them as they are then.
        self.others = {}

    def apply(self, objects, refused=False):
        """An upgrade; what the API server refuses is the Deployment, after all that Helm sends before it."""
        self.others = {(found["kind"], found["metadata"]["name"]): found for found in objects if found["kind"] != "Deployment"}
        if not refused:
            self.want(template(objects))

    def want(self, wanted):
        if wanted in self.replica_sets:
            self.replica_sets.remove(wanted)
        self.replica_sets.append(wanted)

    def undo(self):
        self.want(self.replica_sets[-2])

    def read(self, replica_set):
        """The file that a pod of this ReplicaSet reads when its container starts now."""
        for volume in replica_set["spec"]["volumes"]:
            assert "configMap" not in volume or volume["name"] != "config", "shared by all revisions"
        return files(replica_set)[CONFIGURATION]


def test_each_revision_reads_its_own_configuration(helm):
    good, bad, better = (render(helm, *sets(f"config.server.max_body={size}MiB")) for size in (1, 2, 3))
    text = [configuration(objects) for objects in (good, bad, better)]
    assert [f'max_body = "{size}MiB"' in found for size, found in zip((1, 2, 3), text, strict=True)] == [True] * 3
    revisions = Revisions()
    revisions.apply(good)
    revisions.apply(bad)
    old, new = revisions.replica_sets
    assert (revisions.read(old), revisions.read(new)) == (text[0], text[1]), "a pod from before that restarts"
    revisions.undo()
    assert revisions.read(revisions.replica_sets[-1]) == text[0], "kubectl rollout undo"
    revisions.apply(better, refused=True)
    assert revisions.read(revisions.replica_sets[-1]) == text[0], "an upgrade that the API server refuses"
    revisions.apply(better)
    revisions.apply(good)
    assert [revisions.read(found) for found in revisions.replica_sets] == [text[1], text[2], text[0]], "helm rollback"


def test_nothing_else_of_a_release_holds_configuration(helm):
    for values in sorted((CHART / "ci").glob("*-values.yaml")):
        objects = render(helm, "-f", values)
        for found in of_kind(objects, "ConfigMap") + of_kind(objects, "Secret"):
            assert found["metadata"]["name"].endswith("-dashboard"), values.name
        assert configuration(objects).endswith("\n") and "[server]" in configuration(objects)


def test_a_configuration_of_any_text_arrives_as_it_is(helm, tmp_path):
    # Helm 3 itself refuses control characters in values.
    rare = "" if "helm3" in str(helm.__wrapped__("env")) else "\x7f\u0080\u0085\u009f\ufeff"
    texts = {"a": 'quote " and \\', "b": "line\nbreak\ttab", "c": "ümlaut ☃ 😀", "d": "# no comment", "e": "{{ .Values }}", "f": "  ", "g": "\u0001", "h": "x" * 3000, "i": f"\u2028{rare}"}
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"config": {"telemetry": texts}}, allow_unicode=True))
    assert tomllib.loads(configuration(render(helm, "-f", values)))["telemetry"] == texts


def test_a_configuration_of_any_number_arrives_as_it_is(helm, tmp_path):
    numbers = {"a": 1e30, "b": -0.5, "c": 8080, "d": 10**15, "e": 1e-9, "f": True, "g": [1, 2.5, {"h": 3}]}
    nulls = {"left": None, "g": [None, 1, 2.5, None, {"h": 3, "i": None}]}
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps({"config": {"telemetry": {**numbers, **nulls}}}))
    read = tomllib.loads(configuration(render(helm, "-f", values)))["telemetry"]
    assert read == numbers and [type(read[key]) for key in "acdf"] == [float, int, int, bool]


def test_a_configuration_that_no_annotation_holds_is_refused(helm, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps({"config": {"telemetry": {"a": "x" * 102_000}}}))
    assert len(configuration(render(helm, "-f", values))) < 102_400
    values.write_text(json.dumps({"config": {"telemetry": {"a": "x" * 103_000}}}))
    assert "bytes long as a file, more than 102400" in helm.__wrapped__("template", "onstage", CHART, "-f", values, fails=True)


# -- scaling


SCALERS = {"autoscaling": "hpa", "keda": "keda"}


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("live", [1, 4, 10])
@pytest.mark.parametrize("least", [1, 3, 6])
def test_an_autoscaler_never_begins_with_fewer_pods(fresh, cluster, scaler, live, least):
    cluster.run(the(render(fresh, *sets(f"replicaCount={live}")), "Deployment"))
    chosen = sets(f"{scaler}.enabled=true", f"{scaler}.minReplicas={least}", f"{scaler}.maxReplicas=12")
    wanted = the(render(fresh, "--is-upgrade", *chosen, *cluster.arguments), "Deployment")["spec"]["replicas"]
    assert wanted == max(live, least)
    assert "/apis/apps/v1/namespaces/models/deployments/onstage" in cluster.asked


def test_keda_may_have_scaled_to_nothing(fresh, cluster):
    cluster.run(the(render(fresh), "Deployment"), replicas=0)
    assert the(render(fresh, *sets("keda.enabled=true", "keda.minReplicas=0"), *cluster.arguments), "Deployment")["spec"]["replicas"] == 0


def test_without_an_autoscaler_the_value_decides(fresh, cluster):
    cluster.run(the(render(fresh), "Deployment"), replicas=10)
    assert the(render(fresh, *sets("replicaCount=3"), *cluster.arguments), "Deployment")["spec"]["replicas"] == 3


# -- names and selectors


def selectors(objects):
    """Every selector of pods in a release, which all mean the same pods."""
    deployment = the(objects, "Deployment")["spec"]
    yield deployment["selector"]["matchLabels"]
    yield from (found["spec"]["selector"] for found in of_kind(objects, "Service"))
    yield from (found["spec"]["selector"]["matchLabels"] for found in of_kind(objects, "PodDisruptionBudget"))
    yield from (found["spec"]["podSelector"]["matchLabels"] for found in of_kind(objects, "NetworkPolicy")[:1])
    yield from (found["spec"]["selector"]["matchLabels"] for found in of_kind(objects, "ServiceMonitor"))
    labels = deployment["template"]["metadata"]["labels"]
    yield {key: labels[key] for key in deployment["selector"]["matchLabels"]}


CHANGES = [
    (),
    ("nameOverride=stage",),
    ("nameOverride=models",),
    ("fullnameOverride=models-onstage",),
    ("fullnameOverride=other",),
    ("nameOverride=stage", "fullnameOverride=models-onstage"),
    ("commonLabels.team=fraud", "podLabels.tier=gold"),
    ("service.headless=false", "networkPolicy.enabled=true", "metrics.serviceMonitor.enabled=true"),
    ("commonLabels.app\\.kubernetes\\.io/name=x",),
    ("podLabels.app\\.kubernetes\\.io/instance=x",),
]


@pytest.mark.parametrize("before", range(len(CHANGES) - 2), ids=str)
def test_selectors_stay_for_every_pair_of_values_that_pass(fresh, cluster, before):
    live = render(fresh, *sets(*CHANGES[before]), release="models", namespace="m")
    cluster.run(the(live, "Deployment"), release="models")
    kept = list(selectors(live))
    assert all(found == kept[0] for found in kept)
    passed = 0
    for after in CHANGES:
        said = fresh("template", "models", CHART, "-n", "m", "--is-upgrade", *sets(*after), *cluster.arguments, fails=None)
        if "Error: execution error" in said:
            assert re.search(r"`(nameOverride|commonLabels|podLabels)`", said), said
            continue
        passed += 1
        objects = [found for found in yaml.safe_load_all(said) if found]
        assert all(found == kept[0] for found in selectors(objects)), after
        assert the(objects, "Deployment")["metadata"]["name"] == the(live, "Deployment")["metadata"]["name"], after
    assert passed >= 1


def test_a_release_with_the_old_selector_keeps_it(fresh, cluster):
    """Charts before took the name in the selector from `nameOverride`."""
    live = the(render(fresh, *sets("nameOverride=stage"), release="models"), "Deployment")
    old = {"app.kubernetes.io/name": "stage", "app.kubernetes.io/instance": "models"}
    live["spec"]["selector"]["matchLabels"] = old
    cluster.run(live, release="models")
    objects = render(fresh, "--is-upgrade", *sets("nameOverride=stage", "networkPolicy.enabled=true"), *cluster.arguments, release="models")
    assert all(found == old for found in selectors(objects))


def test_a_release_with_a_name_that_was_cut_keeps_it(fresh, cluster):
    release = "a" * 53
    live = the(render(fresh, release=release), "Deployment")
    cut = f"{release}-onstage"[:52]
    live["metadata"]["name"] = cut
    cluster.run(live, release=release)
    assert the(render(fresh, "--is-upgrade", *cluster.arguments, release=release), "Deployment")["metadata"]["name"] == cut
    # Another release must not take it.
    other = "a" * 52 + "b"
    assert the(render(fresh, *cluster.arguments, release=other), "Deployment")["metadata"]["name"] != cut


def test_a_new_name_for_what_runs_is_refused(fresh, cluster):
    cluster.run(the(render(fresh, release="models"), "Deployment"), release="models")
    said = fresh("template", "models", CHART, "-n", "models", "--is-upgrade", *sets("fullnameOverride=other"), *cluster.arguments, fails=True)
    assert "would rename the running Deployment `models-onstage` to `other`" in said


def test_a_foreign_selector_is_refused(fresh, cluster):
    live = the(render(fresh), "Deployment")
    live["spec"]["selector"]["matchLabels"] = {"app": "x"}
    cluster.run(live)
    said = fresh("template", "onstage", CHART, "-n", "models", "--is-upgrade", *cluster.arguments, fails=True)
    assert "selects its pods by other labels than this chart" in said


def test_another_version_of_the_chart_restarts_nothing(helm, tmp_path):
    for version in ("0.9.0", "1.2.3+build.5"):
        shutil.copytree(CHART, tmp_path / version)
        file = tmp_path / version / "Chart.yaml"
        file.write_text(re.sub(r"(?m)^version: .*$", f"version: {version}", file.read_text()))
    for values in [None, *sorted((CHART / "ci").glob("*-values.yaml"))]:
        arguments = ["-f", values] if values else []
        first, second = (render(helm, *arguments, chart=tmp_path / version) for version in ("0.9.0", "1.2.3+build.5"))
        assert json.dumps(template(first)) == json.dumps(template(second))
        assert the(first, "Deployment")["metadata"]["labels"] != the(second, "Deployment")["metadata"]["labels"]


def test_another_version_of_the_image_restarts_by_the_image_alone(helm, tmp_path):
    shutil.copytree(CHART, tmp_path / "next")
    file = tmp_path / "next/Chart.yaml"
    file.write_text(re.sub(r"(?m)^appVersion: .*$", 'appVersion: "9.9.9"', file.read_text()))
    first, second = template(render(helm)), template(render(helm, chart=tmp_path / "next"))
    assert first != second
    second["spec"]["containers"][0]["image"] = first["spec"]["containers"][0]["image"]
    assert first == second


def test_two_subcharts_of_one_release_have_their_own_pods(helm, tmp_path):
    parent = tmp_path / "parent"
    (parent / "charts").mkdir(parents=True)
    shutil.copytree(CHART, parent / "charts/onstage")
    names = [{"name": "onstage", "version": "*", "alias": alias} for alias in ("fraud", "churn")]
    (parent / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": names}))
    objects = render(helm, release="models", chart=parent)
    first, second = of_kind(objects, "Deployment")
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert first["spec"]["selector"] != second["spec"]["selector"]


AWKWARD = ["1234567", "12e3", "on", "no", "y", "null", "007", "1e3", "0x1f", "a.b", "a-b", "1.2.3", "true", "f" * 53, "f" * 52 + "g"]


@pytest.mark.parametrize("release", AWKWARD)
def test_every_name_of_a_release_is_text_and_names_services(helm, release):
    objects = render(helm, *sets("networkPolicy.enabled=true", "metrics.serviceMonitor.enabled=true"), release=release, namespace="0123")
    for found in objects:
        name = found["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name), name
        assert found["metadata"]["namespace"] == "0123"
    assert all(found["app.kubernetes.io/instance"] == release for found in selectors(objects))


def test_no_two_releases_share_a_name(helm):
    names = {release: the(render(helm, release=release), "Deployment")["metadata"]["name"] for release in AWKWARD}
    for (first, a), (second, b) in itertools.combinations(names.items(), 2):
        assert a != b, (first, second)


# -- the pods that KEDA counts


def pod_names(deployment):
    """How Kubernetes names pods: base, hash of the template and five characters, cut to what a host's name takes."""
    letters = "bcdfghjklmnpqrstvwxz2456789"
    for length in (8, 9, 10):
        base = f"{deployment}-{(letters * 2)[length : 2 * length]}-"
        for suffix in ("b2k9z", "24567", "zzzzz"):
            yield base[:58] + suffix


def test_kedas_query_counts_this_release_alone(helm):
    releases = ["fraud", "fraud-onstage-eu", "fraud-onstage", "f", "f" * 43, "f" * 53, "fraud-onstage-bcdfg", "fraud-onstage-bcdfg-24567"]
    names = {}
    for release in releases:
        objects = render(helm, *sets("keda.enabled=true"), release=release)
        query = the(objects, "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
        pattern = re.search(r'namespace="models",pod=~"([^"]+)"', query)[1]
        names[the(objects, "Deployment")["metadata"]["name"]] = pattern
    for deployment, pattern in names.items():
        for other in names:
            counted = [name for name in pod_names(other) if re.fullmatch(pattern, name)]
            assert (len(counted) == 9) == (deployment == other), (deployment, other, counted)
            assert bool(counted) == (deployment == other), (deployment, other, counted)
