"""The pod of `helm test` and the probes, run against a real server that was configured by the same values."""

import contextlib
import json
import ssl
import urllib.request

import pytest
import yaml
from kubelet import Pod
from objects import of_kind, render, template, the
from shell import IRIS, free_port, run, until

NAMES = ["models-onstage", "models-onstage.ns", "models-onstage.ns.svc"]
SECRETS = "/etc/onstage/secrets"
TLS = {"cert_file": f"{SECRETS}/tls/tls.crt", "key_file": f"{SECRETS}/tls/tls.key"}
MUTUAL = {**TLS, "client_ca_file": f"{SECRETS}/tls/ca.crt", "client_auth": "required"}
MOUNTS = [{"name": "tls", "secretName": "onstage-tls"}, {"name": "client", "secretName": "onstage-client"}, {"name": "keys", "secretName": "onstage-keys"}]
CA = [f"--ca-file={SECRETS}/tls/ca.crt"]
CLIENT = [f"--cert={SECRETS}/client/tls.crt", f"--key={SECRETS}/client/tls.key"]


@pytest.fixture(scope="module")
def secrets(binary, tmp_path_factory):
    """An authority of our own, the server's certificate, that of a client, one of a server alone, and callers."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = folder / "ca"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    run(*request, "-keyout", f"{authority}.key", "-out", f"{authority}.crt", "-subj", "/CN=authority", "-addext", "basicConstraints=critical,CA:TRUE")
    both = "serverAuth,clientAuth"
    for name, usage in (("server", both), ("client", "clientAuth"), ("only", "serverAuth")):
        names = ",".join(f"DNS:{each}" for each in NAMES) if name != "client" else "DNS:client"
        signed = ["-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-addext", "basicConstraints=critical,CA:FALSE"]
        run(*request, *signed, "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt", "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}", "-addext", f"extendedKeyUsage={usage}")

    def pair(name):
        read = {key: (folder / f"{name}.{kind}").read_text() for key, kind in (("tls.crt", "crt"), ("tls.key", "key"))}
        return {**read, "ca.crt": (folder / "ca.crt").read_text()}

    run(binary, "key", "shop", "--scope", "predict", "--model", "*", "--add-to", folder / "callers")
    keys = {"callers": (folder / "callers").read_text()}
    return {"onstage-tls": pair("server"), "onstage-client": pair("client"), "only": pair("only"), "onstage-keys": keys, "authority": pair("server")}


CASES = {
    "plain": {},
    "tls": {"config": {"server": {"tls": TLS}}, "tests": {"extraArgs": CA}},
    "tls, trusted by the configuration": {"config": {"server": {"tls": TLS}, "network": {"ca_file": f"{SECRETS}/tls/ca.crt"}}},
    "tls, trusted by a ConfigMap": {
        "config": {"server": {"tls": TLS}, "network": {"ca_file": "/etc/authority/ca.crt"}},
        "extraVolumes": [{"name": "authority", "configMap": {"name": "authority"}}],
        "extraVolumeMounts": [{"name": "authority", "mountPath": "/etc/authority"}],
    },
    "mutual tls": {"config": {"server": {"tls": MUTUAL}}, "tests": {"extraArgs": CA}},
    "mutual tls, a client's certificate": {
        "config": {"server": {"tls": MUTUAL}},
        "probes": {"exec": {"extraArgs": CLIENT}},
        "tests": {"extraArgs": CA + CLIENT},
    },
    "optional certificates": {"config": {"server": {"tls": {**MUTUAL, "client_auth": "optional"}}}, "tests": {"extraArgs": CA}},
    "keys": {"config": {"auth": {"callers_file": f"{SECRETS}/keys/callers"}}},
    "keys, mutual tls, path": {
        "config": {"server": {"tls": MUTUAL, "base_path": "/ml/v1"}, "auth": {"callers_file": f"{SECRETS}/keys/callers"}},
        "tests": {"extraArgs": CA},
    },
    "path": {"config": {"server": {"base_path": "/ml"}}},
    "probes by exec": {"probes": {"type": "exec"}},
    "an address": {"tests": {"url": "http://models-onstage.ns:PORT"}},
    "policy": {
        "networkPolicy": {
            "enabled": True,
            "from": [{"namespaceSelector": {"matchLabels": {"team": "fraud"}}}],
            "egress": [{"ports": [{"port": 443}]}],
        },
    },
    "placement": {
        "nodeSelector": {"pool": "models"},
        "tolerations": [{"key": "models", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]
                }
            },
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "onstage"}}}
                ]
            },
        },
        "priorityClassName": "models",
        "imagePullSecrets": ["registry"],
        "tests": {"resources": {"requests": {"cpu": "200m", "memory": "96Mi"}, "limits": {"cpu": 1, "memory": "96Mi"}}},
    },
}


def rendered(helm, values, tmp_path):
    port = free_port()
    values = json.loads(json.dumps(values).replace("PORT", str(port)))
    server = values.setdefault("config", {}).setdefault("server", {})
    # The Service's port is the server's, as there is no Service between.
    server.update(port=port, grpc_port="off")
    values.update(models={"targets": [str(IRIS)]}, service={"httpPort": port}, secretMounts=MOUNTS, shutdown={"delaySeconds": 0, "drainSeconds": 1})
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return render(helm.__wrapped__, "-f", file, release="models", namespace="ns")


@contextlib.contextmanager
def served(objects, tmp_path, binary, secrets):
    """The server that the Deployment starts, once its own readiness probe says that it is ready."""
    pod = Pod(template(objects), tmp_path / "server", binary, secrets)
    probe = pod.container["readinessProbe"]
    with pod.running() as (started, log):

        def ready():
            assert started.poll() is None, log.read_text()
            if "exec" in probe:
                return pod.run(probe["exec"]["command"])[0] == 0
            port = next(each["containerPort"] for each in pod.container["ports"] if each["name"] == probe["httpGet"]["port"])
            return probed(probe["httpGet"], port)

        try:
            until(ready, "the readiness probe succeeds")
        except AssertionError:
            print(log.read_text())
            raise
        yield pod


def probed(get, port):
    """As the kubelet asks: without a look at certificates, and without one of its own."""
    context = ssl._create_unverified_context()
    address = f"{get['scheme'].lower()}://127.0.0.1:{port}{get['path']}"
    with urllib.request.urlopen(address, timeout=5, context=context) as answer:
        return answer.status == 200


def asker(objects, tmp_path, binary, secrets):
    (pod,) = of_kind(objects, "Pod")
    return Pod(pod, tmp_path / "tester", binary, secrets, NAMES)


@pytest.mark.parametrize("case", CASES)
def test_the_pod_of_helm_test_succeeds(helm, binary, secrets, tmp_path, case):
    objects = rendered(helm, CASES[case], tmp_path)
    test = asker(objects, tmp_path, binary, secrets)
    with served(objects, tmp_path, binary, secrets) as server:
        for name in ("startupProbe", "livenessProbe"):
            if command := server.container[name].get("exec"):
                assert server.run(command["command"])[0] == 0, name
        status, said = test.end()
        assert (status, said) == (0, "ready\n"), said
    status, said = test.end()
    assert status == 1 and "no answer" in said, "after the server has gone"


WRONG = {
    "no authority": ({"config": {"server": {"tls": TLS}}}, {}, "certificate"),
    "no certificate for clients": ({"config": {"server": {"tls": MUTUAL}}, "tests": {"extraArgs": CA}}, {"onstage-tls": "only"}, ""),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_pod_of_helm_test_fails_where_it_should(helm, binary, secrets, tmp_path, case):
    values, swapped, sentence = WRONG[case]
    secrets = {**secrets, **{name: secrets[other] for name, other in swapped.items()}}
    objects = rendered(helm, values, tmp_path)
    test = asker(objects, tmp_path, binary, secrets)
    pod = Pod(template(objects), tmp_path / "server", binary, secrets)
    with pod.running() as (_, log):
        until(lambda: "listening" in log.read_text() or "http" in log.read_text(), "the server listens")
        status, said = test.end()
        assert status == 1 and sentence in said, said


# -- where the pod runs, and who lets it through


def test_the_pod_is_placed_as_the_others(helm, tmp_path):
    values = CASES["placement"]
    objects = rendered(helm, values, tmp_path)
    (test,) = of_kind(objects, "Pod")
    spec, server = test["spec"], template(objects)["spec"]
    for field in ("nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets", "serviceAccountName", "securityContext"):
        assert spec[field] == server[field], field
    # Pods of its own node would keep it away from the nodes that serve.
    assert spec["affinity"] == {"nodeAffinity": values["affinity"]["nodeAffinity"]}
    assert spec["containers"][0]["resources"] == {"requests": {"cpu": "200m", "memory": "96Mi"}, "limits": {"cpu": "1", "memory": "96Mi"}}


def test_the_pod_is_found_by_no_service_and_let_in_by_the_policy(helm, tmp_path):
    objects = rendered(helm, CASES["policy"], tmp_path)
    (test,) = of_kind(objects, "Pod")
    labels = test["metadata"]["labels"]

    def fits(selector, labels):
        return all(labels.get(key) == value for key, value in selector["matchLabels"].items())

    selectors = [{"matchLabels": service["spec"]["selector"]} for service in of_kind(objects, "Service")]
    selectors += [budget["spec"]["selector"] for budget in of_kind(objects, "PodDisruptionBudget")]
    assert selectors and not any(fits(selector, labels) for selector in selectors)
    server = template(objects)["metadata"]["labels"]
    first, second = of_kind(objects, "NetworkPolicy")
    assert fits(first["spec"]["podSelector"], server) and not fits(first["spec"]["podSelector"], labels)
    allowed = [peer["podSelector"] for rule in first["spec"]["ingress"] for peer in rule["from"] if "podSelector" in peer]
    assert any(fits(selector, labels) for selector in allowed)
    # In a namespace that denies everything it also gets out, and nobody gets in.
    assert fits(second["spec"]["podSelector"], labels) and not fits(second["spec"]["podSelector"], server)
    out = [peer["podSelector"] for rule in second["spec"]["egress"] for peer in rule.get("to", [])]
    assert any(fits(selector, server) for selector in out) and "ingress" not in second["spec"]


def test_the_pod_never_outlives_the_release(helm, tmp_path):
    objects = rendered(helm, {}, tmp_path)
    (test,) = of_kind(objects, "Pod")
    policies = set(test["metadata"]["annotations"]["helm.sh/hook-delete-policy"].split(","))
    # Helm takes no hooks away at `helm uninstall`, so a pod that ended is gone before.
    assert policies == {"before-hook-creation", "hook-succeeded", "hook-failed"}
    assert test["metadata"]["annotations"]["helm.sh/hook-output-log-policy"] == "hook-failed"
    assert test["spec"]["restartPolicy"] == "Never" and test["spec"]["activeDeadlineSeconds"] <= 300


def test_the_pod_gets_certificates_and_no_other_secrets(helm):
    settings = ["--set", "admin.enabled=true,admin.tokenSecret.name=a,registry.webhookSecret.name=w,secretMounts[0].name=tls,secretMounts[0].secretName=t"]
    (test,) = of_kind(render(helm, *settings), "Pod")
    assert [volume["secret"]["secretName"] for volume in test["spec"]["volumes"] if "secret" in volume] == ["t"]
    assert "envFrom" not in test["spec"]["containers"][0]


def test_the_pod_can_be_left_out(helm):
    objects = render(helm, "--set", "tests.enabled=false,networkPolicy.enabled=true,networkPolicy.from[0].podSelector.matchLabels.a=b")
    assert not of_kind(objects, "Pod")
    assert len(the(objects, "NetworkPolicy")["spec"]["ingress"][0]["from"]) == 2
