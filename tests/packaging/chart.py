"""The Helm chart: rendered by both majors of Helm, checked against the schemas of Kubernetes, its configuration by onstage itself."""

import functools
import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from objects import NEWEST, OLDEST, configuration, container, of_kind, pod, render, template, the
from schemas import validate
from shell import CHART, ROOT, environment, run

VALUE_SETS = sorted((CHART / "ci").glob("*-values.yaml"))
NAMES = [path.name.removesuffix("-values.yaml") for path in VALUE_SETS]
NEEDS = {"oci-image": "1.31.0", "pre-stop": "1.30.0"}
BIN = f"{sys.prefix}/bin"


def test_there_are_at_least_a_dozen_value_sets():
    assert len(VALUE_SETS) >= 12


@pytest.mark.parametrize("values", VALUE_SETS, ids=NAMES)
def test_lint_has_no_complaint(helm, values):
    # Lint knows its own version of Kubernetes, which is 1.32 or newer.
    helm("lint", "--strict", CHART, "-f", values)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", VALUE_SETS, ids=NAMES)
def test_objects_follow_the_schemas_of_kubernetes(helm, values, version):
    needs = NEEDS.get(values.name.removesuffix("-values.yaml"), OLDEST)
    if number(needs) > number(version):
        said = helm("template", "onstage", CHART, "--kube-version", version, "-f", values, fails=True)
        assert f"needs Kubernetes {needs.removesuffix('.0')} or newer; this cluster is v{version}" in said
        return
    objects = render(helm, "-f", values, version=version)
    ours = [found for found in objects if "." not in found["apiVersion"].split("/")[0] or ".k8s.io/" in found["apiVersion"]]
    ours = [found for found in ours if not found["apiVersion"].startswith("gateway.")]
    assert {"Deployment", "Service"} <= {found["kind"] for found in ours}
    for found in ours:
        validate(found, version)


def number(version):
    return [int(part) for part in version.split(".")]


def hold_against_definitions(objects, tools, scratch, **options):
    # A module of JavaScript finds packages beside itself only.
    shutil.copy(ROOT / "tests/packaging/custom_resources.mjs", tools)
    (scratch / "objects.json").write_text(json.dumps(objects))
    return run("node", tools / "custom_resources.mjs", scratch / "objects.json", **options)


def test_custom_resources_follow_their_schemas(helm, tools, tmp_path):
    ours = r"(monitoring\.coreos\.com|keda\.sh|gateway\.networking\.k8s\.io)/"
    objects = [found for values in VALUE_SETS for found in render(helm, "-f", values) if re.match(ours, found["apiVersion"])]
    assert {found["kind"] for found in objects} == {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute"}
    hold_against_definitions(objects, tools, tmp_path)


def test_a_custom_resource_with_a_mistake_is_refused(tools, tmp_path):
    wrong = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x"}, "spec": {"endpoints": 1}}
    assert "endpoints" in hold_against_definitions([wrong], tools, tmp_path, fails=True)


@pytest.mark.parametrize("values", VALUE_SETS, ids=NAMES)
def test_onstage_takes_the_configuration_and_the_arguments(helm, binary, values, tmp_path):
    objects = render(helm, "-f", values)
    file = tmp_path / "onstage.toml"
    secrets = tmp_path / "secret"
    secrets.write_text("a secret of the tests, long enough")
    text = re.sub(r'"/etc/onstage/secrets/[^"]*"', f'"{secrets}"', configuration(objects))
    file.write_text(text)
    arguments = [argument.replace("/etc/onstage/config/onstage.toml", str(file)) for argument in container(objects)["args"]]
    said = run(binary, *arguments, "--check-config", env=environment(ONSTAGE_SERVER__HOST="0.0.0.0"))
    assert str(file) in said, said


def test_the_configuration_keeps_numbers_names_and_nesting(helm):
    text = configuration(render(helm, "-f", CHART / "ci/placement-values.yaml"))
    read = tomllib.loads(text)
    assert read["server"]["port"] == 8080 and isinstance(read["server"]["port"], int)
    assert read["models"]["fraud v2.1"]["batching"] == {"max_batch_size": 64, "max_queue_delay": "2ms"}
    assert read["registry"] == {"uri": "s3://bucket/models", "cache_dir": "/var/cache/onstage"}


WRONG = [
    (["replicaCount=two"], "replicaCount", "integer"),
    (["replicas=3"], "replicas", "not allowed"),
    (["image.pullPolicy=Sometimes"], "pullPolicy", "Always"),
    (["service.httpPort=70000"], "httpPort", "65535"),
    (["shutdown.drainSeconds=30s"], "drainSeconds", "integer"),
    (["config.server.port=http"], "port", "integer"),
    (["ingress.hosts[0].name=x"], "host", ""),
    (["secretMounts[0].name=admin", "secretMounts[0].secretName=x"], "secretMounts", ""),
]


@pytest.mark.parametrize(("settings", "where", "what"), WRONG, ids=[wrong[0][0] for wrong in WRONG])
def test_a_wrong_value_is_refused_by_name(helm, settings, where, what):
    sets = [part for setting in settings for part in ("--set", setting)]
    for command in (["lint", "--strict", CHART], ["template", "onstage", CHART]):
        said = helm(*command, *sets, fails=True)
        # Helm 4 groups the digits.
        assert where in said and what in said.replace(",", ""), said


CONTRADICTIONS = [
    (["autoscaling.enabled=true", "keda.enabled=true"], "so choose one"),
    (["autoscaling.enabled=true", "autoscaling.minReplicas=20"], "`autoscaling.minReplicas` is 20, more than `autoscaling.maxReplicas`, which is 10"),
    (["autoscaling.enabled=true", "autoscaling.targetCPUUtilizationPercentage=0"], "there is nothing to scale on"),
    (["autoscaling.enabled=true", "resources.requests.cpu=null"], "is a share of `resources.requests.cpu`, which is not set"),
    (["config.server.drain_timeout=5s"], "`config.server.drain_timeout` is written by the chart: set `shutdown.drainSeconds` instead"),
    (["config.server.host=127.0.0.1"], "`config.server.host` is `0.0.0.0` in a pod"),
    (["config.registry.cache_dir=/x"], "set `cache` instead"),
    (["admin.enabled=true"], "`admin.tokenSecret.name` names no Secret"),
    (["cache.type=pvc"], "`cache.claimName` names no PersistentVolumeClaim"),
    (["models.pvc.claimName=a", "models.ociImage.reference=b"], "all fill /mnt/models: choose one"),
    (["models.download.targets[0]=models:/a/1"], "no registry to copy them from"),
    (["deployment.maxSurge=0"], "nothing could ever be replaced"),
    (["ingress.enabled=true"], "`ingress.hosts` is empty"),
    (["httpRoute.enabled=true"], "names no Gateway"),
    (["metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true"], "every pod would be counted twice"),
]


@pytest.mark.parametrize(("settings", "sentence"), CONTRADICTIONS, ids=[wrong[0][-1] for wrong in CONTRADICTIONS])
def test_values_that_contradict_each_other_are_told_in_a_sentence(helm, settings, sentence):
    sets = [part for setting in settings for part in ("--set", setting)]
    said = helm("template", "onstage", CHART, *sets, fails=True)
    assert sentence in said, said


def test_an_old_cluster_is_refused(helm):
    said = helm("template", "onstage", CHART, "--kube-version", "1.26.0", fails=True)
    assert "1.27.0" in said


def test_the_schema_knows_every_value_and_no_other():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(values, schema, path):
        if schema.get("additionalProperties") is not False:
            return
        known = set(schema["properties"]) - {"global"}
        assert known - {"claims"} == set(values) | (known & {"claims"}) - {"claims"}, path
        for key, value in values.items():
            if isinstance(value, dict):
                compare(value, schema["properties"][key], f"{path}.{key}")

    compare(values, schema, "")


def test_a_rollout_drops_nothing(helm):
    objects = render(helm, "--set", "shutdown.delaySeconds=7,shutdown.drainSeconds=25,shutdown.marginSeconds=3")
    deployment = the(objects, "Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert pod(objects)["terminationGracePeriodSeconds"] == 35
    server = tomllib.loads(configuration(objects))["server"]
    assert (server["shutdown_delay"], server["drain_timeout"]) == ("7s", "25s")
    probes = container(objects)
    assert probes["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    # Slow models must not have their container killed.
    assert {probes[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe")} == {"/v2/health/live"}


def test_a_pod_is_as_locked_as_it_can_be(helm):
    for values in VALUE_SETS:
        objects = render(helm, "-f", values)
        for spec in [pod(objects), *[found["spec"] for found in of_kind(objects, "Pod")]]:
            assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
            assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]
            for each in spec["containers"] + spec.get("initContainers", []):
                context = each["securityContext"]
                assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], each["name"]
                assert context["capabilities"] == {"drop": ["ALL"]} and each["resources"]["limits"]["memory"]


def test_a_change_of_the_configuration_restarts_the_pods(helm):
    before, after = (template(render(helm, *sets)) for sets in ([], ["--set", "config.telemetry.log_level=debug"]))
    assert before == template(render(helm)) != after


def test_autoscalers_own_the_number_of_replicas(helm):
    for name in ("hpa", "keda"):
        assert "replicas" not in the(render(helm, "-f", CHART / f"ci/{name}-values.yaml"), "Deployment")["spec"]
    assert the(render(helm), "Deployment")["spec"]["replicas"] == 2


def test_a_download_needs_the_registry_before_the_start_only(helm):
    objects = render(helm, "-f", CHART / "ci/download-values.yaml")
    (init,) = pod(objects)["initContainers"]
    assert init["args"][:3] == ["pull", "models:/fraud@champion", "models:/churn/3"]
    assert "--registry=https://mlflow.example.com" in init["args"]
    assert tomllib.loads(configuration(objects))["registry"]["uri"] == "/mnt/models"
    assert container(objects)["args"][2:] == ["models:/fraud@champion", "models:/churn/3"]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container(objects)["volumeMounts"]}
    assert mounts["/mnt/models"] and not mounts["/var/cache/onstage"]


def test_whoever_hears_of_a_change_tells_the_other_pods(helm):
    def peers(*settings):
        objects = render(helm, "--set", ",".join(settings))
        return tomllib.loads(configuration(objects))["registry"].get("peers"), objects

    told, objects = peers("registry.webhookSecret.name=w", "config.server.port=9000")
    (headless,) = [service for service in of_kind(objects, "Service") if service["spec"].get("clusterIP") == "None"]
    ports = [port["port"] for port in headless["spec"]["ports"] if port["name"] == "http"]
    assert told == [f"{headless['metadata']['name']}:{port}" for port in ports] and ports == [9000]
    assert peers("config.server.port=9000")[0] is None, "nobody hears of anything"
    for other in ("service.headless=false", "config.server.tls.cert_file=/c,config.server.tls.key_file=/k"):
        assert peers(other, "registry.webhookSecret.name=w")[0] is None, other
    chosen = ("registry.webhookSecret.name=w", "config.registry.peers={a:1}")
    assert peers(*chosen)[0] == ["a:1"]


def test_every_mount_has_its_volume(helm):
    for values in VALUE_SETS:
        spec = pod(render(helm, "-f", values))
        volumes = [volume["name"] for volume in spec["volumes"]]
        assert len(volumes) == len(set(volumes))
        for each in spec["containers"] + spec.get("initContainers", []):
            assert {mount["name"] for mount in each["volumeMounts"]} <= set(volumes), values.name


def test_services_and_probes_agree_on_ports(helm):
    objects = render(helm, "--set", "config.server.port=9000,config.server.grpc_port=9001")
    ports = {port["name"]: port["containerPort"] for port in container(objects)["ports"]}
    assert ports == {"http": 9000, "grpc": 9001}
    headless, service = sorted(of_kind(objects, "Service"), key=lambda found: found["spec"].get("clusterIP") != "None")
    assert {port["port"] for port in headless["spec"]["ports"]} == {9000, 9001}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == {"http", "grpc"}
    without = render(helm, "--set", "config.server.grpc_port=off")
    assert [port["name"] for port in container(without)["ports"]] == ["http"]


def test_both_majors_of_helm_render_alike(tools):
    for values in VALUE_SETS:
        program = [tools / major / "helm/helm" for major in ("helm3", "helm4")]
        first, second = (run(each, "template", "onstage", CHART, "-f", values, "--kube-version", NEWEST) for each in program)
        assert list(yaml.safe_load_all(first)) == list(yaml.safe_load_all(second)), values.name


def test_notes_show_the_first_request(tools):
    # Helm 3 asks a cluster even to show what it would do.
    helm = functools.partial(run, tools / "helm4/helm/helm")
    said = helm("install", "onstage", CHART, "--dry-run=client", "--namespace", "models")
    assert "curl http://127.0.0.1:8080/invocations" in said
    assert "the example of the image is served" in said
    said = helm("install", "m", CHART, "--dry-run=client", "-f", CHART / "ci/registry-values.yaml")
    assert "curl -X POST http://127.0.0.1:8080/v2/repository/index" in said


def test_notes_warn_of_what_an_operator_would_find_out_later(tools):
    def notes(*settings):
        sets = [part for setting in settings for part in ("--set", setting)]
        return run(tools / "helm4/helm/helm", "install", "m", CHART, "--dry-run=client", *sets).partition("NOTES:")[2]

    plain = notes()
    assert "--rollback-on-failure --wait" in plain and "--atomic" in plain and "logs deployment/" not in plain
    assert "WARNING" not in plain and "401" not in plain and "rollouts wait" not in plain
    assert "`replicaCount` is 1" in notes("replicaCount=1")
    assert "may go down to 1" in notes("autoscaling.enabled=true", "autoscaling.minReplicas=1")
    assert "may go down to 0" in notes("keda.enabled=true", "keda.minReplicas=0")
    assert "`replicaCount` is 1" not in notes("replicaCount=1", "keda.enabled=true")
    assert "/metrics answers 401" in notes("config.auth.callers_file=/c")
    assert "401" not in notes("config.auth.callers_file=/c", "config.auth.public_metrics=true")
    assert "rollouts wait" in notes("config.registry.uri=http://r", "config.registry.follow={a}")
    assert "rollouts wait" not in notes("config.registry.uri=http://r", "cache.type=pvc", "cache.claimName=c")
    tls = "config.server.tls.cert_file=/c,config.server.tls.key_file=/k"
    assert "curl --insecure https://127.0.0.1:8080/invocations" in notes(tls)


def test_the_newest_pod_is_described(tools):
    """The selector of NOTES finds the pods of the server, and not that of `helm test`."""
    helm = tools / "helm4/helm/helm"
    said = run(helm, "install", "m", CHART, "--dry-run=client")
    wanted = dict(part.split("=") for part in re.search(r"get pods -l (\S+)", said)[1].split(","))
    objects = render(functools.partial(run, helm), release="m")
    assert wanted.items() <= template(objects)["metadata"]["labels"].items()
    assert not wanted.items() <= the(objects, "Pod")["metadata"]["labels"].items()

def test_the_package_holds_what_the_chart_reads(helm, tmp_path):
    helm("package", CHART, "-d", tmp_path)
    (archive,) = tmp_path.glob("onstage-*.tgz")
    said = run("tar", "tzf", archive).split()
    assert {"onstage/files/alerts.yaml", "onstage/files/dashboard.json", "onstage/values.schema.json", "onstage/README.md"} <= set(said)
    assert not [name for name in said if name.startswith("onstage/ci/")]


def test_the_chart_and_the_crate_have_one_version():
    crate = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == crate == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_readme_is_generated():
    run(sys.executable, ROOT / "tests/packaging/chart_readme.py", "--check")


def test_checkov_finds_nothing_that_is_not_explained(tools, tmp_path):
    program = tools / "helm4/helm/helm"
    for values in VALUE_SETS:
        text = run(program, "template", "onstage", CHART, "--namespace", "models", "-f", values, "--kube-version", NEWEST)
        (tmp_path / f"{values.stem}.yaml").write_text(text)
    for manifest in (ROOT / "kserve").glob("*.yaml"):
        (tmp_path / manifest.name).write_text(manifest.read_text())
    (tmp_path / "Dockerfile").write_text((ROOT / "Dockerfile").read_text())
    command = [f"{BIN}/checkov", "-d", tmp_path, "--config-file", ROOT / "tests/packaging/checkov.yaml", "-o", "json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=600)
    reports = json.loads(done.stdout)
    reports = reports if isinstance(reports, list) else [reports]
    assert {report["check_type"] for report in reports} >= {"kubernetes", "dockerfile"}, done.stderr
    failed = [
        f"{check['check_id']} {check['check_name']}: {check['file_path']} {check['resource']}"
        for report in reports
        for check in report["results"]["failed_checks"]
    ]
    assert not failed, "\n".join(sorted(set(failed)))
    assert sum(report["summary"]["passed"] for report in reports) > 100


def test_hadolint_has_no_complaint():
    assert run(f"{BIN}/hadolint", "--no-color", ROOT / "Dockerfile") == ""
