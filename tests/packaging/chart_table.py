"""The rules of the chart's values: one row for each, with examples that are taken and refused. chart_values.py tries every example, and
chart_readme.py writes the table into the chart's README."""

from typing import NamedTuple


class Row(NamedTuple):
    value: str
    rule: str
    source: str
    good: list
    bad: list
    # Other values that the example needs.
    beside: dict = {}


SOURCES = {
    "chart": "the chart's own: what it renders, or what onstage takes",
    "label": "RFC 1123, `IsDNS1123Label`",
    "name": "RFC 1123, `IsDNS1123Subdomain`",
    "service": "RFC 1035, `ValidateServiceName`",
    "labels": "`ValidateLabels`: `IsQualifiedName`, `IsValidLabelValue`",
    "annotations": "`ValidateAnnotations`",
    "int32": "the field's type, `ValidateNonnegativeField`",
    "image": "the reference grammar of OCI images",
    "secret": "`IsConfigMapKey`",
    "path": "`validateLocalDescendingPath`",
    "quantity": "`resource.ParseQuantity`, `ValidateResourceRequirements`",
    "pod": "core/v1 `ValidatePodSpec`",
    "ports": "`IsValidPortNum`; the kubelet, as pods are not root",
    "probe": "core/v1 `validateProbe`",
    "deployment": "apps/v1 `ValidateDeploymentSpec`",
    "budget": "policy/v1 `ValidatePodDisruptionBudgetSpec`",
    "hpa": "autoscaling/v2 `validateHorizontalPodAutoscalerSpec`",
    "keda": "keda.sh/v1alpha1, the definition's schema",
    "policy": "networking/v1 `ValidateNetworkPolicySpec`",
    "ingress": "networking/v1 `ValidateIngressSpec`",
    "gateway": "gateway.networking.k8s.io/v1, the definition's schema",
    "monitor": "monitoring.coreos.com/v1, the definition's schema",
}

LONG = "a" * 254
EMPTY = [{"name": "a", "emptyDir": {}}]
NAMES = ["a", "a.b-c", "007", "on", "1e3"], ["A", "a_b", "-a", "a..b", LONG]
LABELS = [{"team": "fraud"}, {"a.b/c_D": "X-1.y_z"}, {"a": ""}, {"a": "007"}, {"a": "on"}], [{"a": "x/y"}, {"a": "b" * 64}, {"-a": "b"}, {"A/b": "c"}, {"a": 1}]
OURS = {"app.kubernetes.io/name": "x"}
NOTES = [{"a/b": "any text: {}\n"}, {"a": "1e3"}], [{"a b": "c"}, {"/a": "b"}, {"a/b/c": "d"}, {"a": 1}, {"a": "x" * 260_000}]
HOSTS = ["models.example.com", "*.example.com", "a"], ["Models.example.com", "a_b", "*", "a.*.b", "10.0.0.1", LONG]
PATHS = ["/", "/ml", "/a/b/"], ["a", "/a//b", "/a/../b", "/a/.", "/a%2Fb", "/a b"]
AMOUNTS = ["500m", "2", 2, "1.5Gi", "1e9", "1073741824"], ["lots", "1.5.5", "-1", "1 Gi", "1gb", ""]
PERCENT = [0, 3, "25%", "100%"], [-1, "5", "%", "1.5%", "-5%", "99999999999%", " 5%", 2**31]
NUMBERS = [1, 1_000_000], [-1, 1.5, "2", 2**31]
POSITIVE = [1, 1_000_000], [0, -1, "2", 2**31]
PORTS = [8443, 65535], [0, 65536, "http"]
FLAGS = ["--log-level=debug"], ["", 1]
PEERS = (
    [
        [{"podSelector": {"matchLabels": {"a": "b"}}}],
        [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}],
        [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        [{"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}}],
        [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.1/32"]}}],
    ],
    [
        [{}],
        *([{"ipBlock": {"cidr": cidr}}] for cidr in ("10.0.0.0", "10.0.0.0/33", "300.0.0.0/8", "1:2:3/64", ":::/64")),
        *([{"ipBlock": {"cidr": "10.0.0.0/8", "except": [part]}}] for part in ("10.0.0.0/8", "11.0.0.0/16", "::/0", "x")),
        [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": []}]}}],
        [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {"matchLabels": {"a": "b"}}}],
        [{"podSelector": {"matchLabels": {"a": "b/c"}}}],
        [{"pods": {}}],
    ],
)
SCALE = {"autoscaling": {"enabled": True}}
KEDA = {"keda": {"enabled": True}}
POLICY = {"networkPolicy": {"enabled": True}}
GATE = {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}
INGRESS = {"ingress": {"enabled": True, "hosts": [{"host": "a.b", "paths": [{"path": "/", "pathType": "Prefix"}]}]}}
CONTAINER = {"name": "helper", "image": "example/helper:1"}
GET = {"httpGet": {"port": 9999}}
MOUNT = {"name": "cache", "mountPath": "/b"}
MUTUAL = {"server": {"tls": {"cert_file": "/c", "key_file": "/k", "client_ca_file": "/a", "client_auth": "required"}}}
CALLERS = {"auth": {"callers_file": "/c"}}


def volume(**source):
    return [{"name": "a", **source}]


def helper(**fields):
    return [{**CONTAINER, **fields}]


def from_source(**source):
    return [{"name": "A", "valueFrom": source}]


def terms(**requirement):
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", **requirement}]}]}}}


def apart(**term):
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a", **term}]}}


def metric(kind, field, target, **source):
    return [{"type": kind, field: {**source, "target": target}}]


def paths(value):
    return [{"host": "a.b", "paths": [{"path": value, "pathType": "Prefix"}]}]


def resources(path, defaults):
    quantities = [{"requests": {"cpu": each}, "limits": {"cpu": "9e9"}} for each in AMOUNTS[0]]
    return Row(
        path,
        "quantities of resources that a container may have; no request above the limit, that of the chart's default neither; whole numbers, and request = limit, of what cannot be shared",
        "quantity",
        [*quantities, {"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": "1"}}, {"limits": {"ephemeral-storage": "1Gi"}}],
        [
            *({"requests": {"cpu": each}} for each in AMOUNTS[1][:-1]),
            {"requests": {"memory": "2Gi"}},
            {"limits": {"memory": defaults}},
            {"requests": {"cores": 1}},
            {"limits": {"nvidia.com/gpu": "500m"}},
            {"requests": {"nvidia.com/gpu": 1}},
            {"limits": {"hugepages-2Mi": "1Mi"}, "requests": {"hugepages-2Mi": "2Mi"}},
            {"limit": {"cpu": 1}},
        ],
    )


ROWS = [
    Row("replicaCount", "a whole number, 0 or more", "int32", [0, *NUMBERS[0]], NUMBERS[1]),
    Row("image.repository", "an image in lower case, without tag", "image", ["example/onstage", "registry.example.com:5000/a/b-c", "onstage"], ["Example/onstage", "a:1", "a@b", "a//b", "a b", ""]),
    Row("image.tag", "letters, digits, `_`, `.`, `-`, at most 128", "image", ["1.0", "1e3", "007", "x" * 128], ["a:b", "-a", "x" * 129, 1.0]),
    Row("image.digest", "`sha256:` and 64 hexadecimal digits", "image", ["sha256:" + "0" * 64], ["sha256:abc", "0" * 64, "sha256:" + "G" * 64]),
    Row("image.pullPolicy", "one of three words", "pod", ["Always", "IfNotPresent", "Never"], ["Sometimes", "always", ""]),
    Row("imagePullSecrets", "names, each once", "name", [["a"], NAMES[0]], [*([name] for name in NAMES[1]), ["a", "a"], [""]]),
    Row("nameOverride", "a DNS label, at most 52; names of objects that become longer end with a hash", "service", ["on", "no", "007", "1e3", "a" * 52], ["A", "a.b", "a_b", "-a", "a" * 53, 7]),
    Row("fullnameOverride", "a Service's name, at most 52", "service", ["on", "no", "a-1", "a" * 52], ["007", "A", "a.b", "-a", "a-", "a" * 53]),
    Row("commonLabels", "labels, but those of the chart, by which objects are found", "labels", LABELS[0], [*LABELS[1], OURS, {"helm.sh/chart": "x"}]),
    Row("podAnnotations", "annotations, at most 256 KiB with the configuration, and not `onstage/config`", "annotations", NOTES[0], [*NOTES[1], {"onstage/config": "x"}]),
    Row("podLabels", "labels, but those of the chart", "labels", LABELS[0], [*LABELS[1], OURS, {"pod-template-hash": "x"}]),
    Row(
        "config",
        "sections of `onstage.toml`, without the keys that other values write; at most 100 KiB",
        "chart",
        [{"server": {"max_body": "1MiB"}}, {"models": {"a b": {"required": True}}}],
        [{"Server": {}}, {"server": {"host": "127.0.0.1"}}, {"server": {"drain_timeout": "5s"}}, {"registry": {"cache_dir": "/x"}}, {"server": 1}, {"a b": {}}, {"telemetry": {"a": "x" * 103_000}}, {"server": {"tls": "x"}}, {"auth": {"jwt": "x"}}, {"auth": {"public_metrics": "no"}}],
    ),
    Row("config.server.base_path", "a path of letters, digits, `-`, `.`, `_` and `~`, as onstage takes it", "chart", ["/ml", "/ml/v1.2/", ""], ["ml", "/a b", "/a//b", "/../x", "/a/.", "/ü", 5]),
    Row("config.server.port", "1024 to 65535, each port once", "ports", PORTS[0], [*PORTS[1], 1023, 8081]),
    Row("config.server.grpc_port", "1024 to 65535, each port once, or `off`", "ports", [*PORTS[0], "off"], [0, 65536, "on", 80, 8080]),
    Row("models.targets", "texts that begin neither with `-` nor with a space", "chart", [["models:/a@b"], ["/mnt/models/a", "1e3"]], [[""], [" "], ["--port=1"], [1], "a"]),
    Row("models.pvc.claimName", "a name", "name", *NAMES),
    Row("models.pvc.subPath", "a relative path without `..`", "path", ["a", "a/b", "a..b"], ["/a", "..", "a/../b", "a/.."], {"models": {"pvc": {"claimName": "a"}}}),
    Row("models.ociImage.reference", "an image in lower case, with tag or digest", "image", ["a:1", "r.example.com:5000/a/b:x", "a@sha256:" + "0" * 64], ["A:1", "a:b:c", "a b", "a@sha256:1"]),
    Row("models.ociImage.pullPolicy", "one of three words", "pod", ["Always", "IfNotPresent", "Never"], ["", "always"], {"models": {"ociImage": {"reference": "a:1"}}}),
    Row("models.download.targets", "`models:/…`, and a registry to copy from", "chart", [["models:/a/1", "models:/b@c"]], [["a"], [""], ["models:/"]], {"models": {"download": {"registry": "http://r"}}}),
    Row("models.download.registry", "a text", "chart", ["http://r", "s3://b/p: #"], [1, ["a"]], {"models": {"download": {"targets": ["models:/a/1"]}}}),
    Row("registry.credentialsSecret", "a name", "name", *NAMES),
    Row("registry.webhookSecret.name", "a name", "name", *NAMES),
    Row("registry.webhookSecret.key", "a key of a Secret", "secret", ["a.B_c-1", "007"], ["a/b", "..", "a b", ""], {"registry": {"webhookSecret": {"name": "a"}}}),
    Row("cache.type", "one of two words; `pvc` names its claim", "chart", ["emptyDir"], ["hostPath", "", "pvc"]),
    Row("cache.sizeLimit", "a quantity", "quantity", AMOUNTS[0], AMOUNTS[1]),
    Row("cache.claimName", "a name", "name", *NAMES, {"cache": {"type": "pvc"}}),
    Row("admin.enabled", "true or false; with a Secret of its token", "chart", [False], ["yes", 1, True]),
    Row("admin.port", "1024 to 65535, each port once", "ports", [9000], [*PORTS[1], 443, 8080], {"admin": {"enabled": True, "tokenSecret": {"name": "a"}}}),
    Row("admin.tokenSecret.name", "a name", "name", *NAMES, {"admin": {"enabled": True}}),
    Row("admin.tokenSecret.key", "a key of a Secret", "secret", ["a.B_c-1"], ["a/b", ".", "a b", ""], {"admin": {"enabled": True, "tokenSecret": {"name": "a"}}}),
    Row(
        "secretMounts",
        "a DNS label of at most 52 that no other mount has, and the Secret's name",
        "label",
        [[{"name": "tls", "secretName": "a.b"}], [{"name": "007", "secretName": "on"}]],
        [[{"name": "A", "secretName": "a"}], [{"name": "a.b", "secretName": "a"}], [{"name": "a", "secretName": "A"}], [{"name": "a"}], [{"name": "admin", "secretName": "a"}], [{"name": "a", "secretName": "a"}, {"name": "a", "secretName": "b"}], [{"name": "a" * 53, "secretName": "a"}]],
    ),
    Row(
        "extraEnv",
        "names of variables, each once and none that the chart or other values write, with a text or one source",
        "pod",
        [[{"name": "A", "value": "1e3"}], [{"name": "a.b-c", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]],
        [[{"name": "A", "value": 1}], [{"name": "1A"}], [{"name": "A B"}], [{"name": "A"}, {"name": "A"}], [{"name": "TMPDIR", "value": "/x"}], [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}], [{"value": "a"}], [{"name": "A", "Value": "b"}],
            *([{"name": name, "value": "1"}] for name in ("", ".", "..", "A=B", "ONSTAGE_SERVER__PORT", "ONSTAGE_SERVER__DRAIN_TIMEOUT", "ONSTAGE_REGISTRY__CACHE_DIR")),
            *(from_source(**source) for source in ({}, {"fieldRef": {"fieldPath": "metadata.foo"}}, {"secretKeyRef": {"key": "a"}}, {"secretKeyRef": {"name": "A", "key": "a"}}, {"secretKeyRef": {"name": "a", "key": "a b"}}, {"resourceFieldRef": {"resource": "limits.foo"}})),
        ],
    ),
    Row("extraEnvFrom", "Secrets and ConfigMaps by name", "pod", [[{"secretRef": {"name": "a"}}, {"configMapRef": {"name": "b", "optional": True}}]], [[{"secretRef": {"name": "A"}}], [{"secretRef": {"name": ""}}], [{"secret": "a"}], [{}], [{"secretRef": {"name": "a"}, "configMapRef": {"name": "a"}}], [{"prefix": "1A", "secretRef": {"name": "a"}}]]),
    Row(
        "extraVolumes",
        "volumes with names that no other volume has",
        "pod",
        [EMPTY, [{"name": "007", "secret": {"secretName": "a.b", "defaultMode": 256}}]],
        [[{"name": "A", "emptyDir": {}}], [{"name": "a.b", "emptyDir": {}}], [{"name": "config", "emptyDir": {}}], [{"name": "cache", "emptyDir": {}}], EMPTY * 2, [{"name": "a", "emptydir": {}}], [{"name": "a", "emptyDir": {"sizeLimit": "x"}}], [{"name": "a", "secret": {"secretName": "A"}}], [{"name": "a", "secret": {"secretName": "a", "defaultMode": 512}}],
            volume(emptyDir={}, secret={"secretName": "a"}), volume(emptyDir={"medium": "Disk"}), volume(configMap={}), volume(secret={}), volume(configMap={"name": "a", "items": [{"key": "a", "path": "../x"}]}), volume(hostPath={"path": "/a/../b"}), volume(hostPath={"path": "/a", "type": "Pipe"}), volume(nfs={"server": "a", "path": "b"}), volume(projected={"sources": [{}]}), volume(projected={"sources": [{"serviceAccountToken": {"path": "a", "expirationSeconds": 5}}]}), volume(downwardAPI={"items": [{"path": "a", "fieldRef": {"fieldPath": "spec.nodeName"}}]}), volume(csi={"driver": "a b"}), volume(ephemeral={}), volume(image={"reference": ""}),
        ],
    ),
    Row(
        "extraVolumeMounts",
        "a volume that is there, a whole path that no other mount has",
        "pod",
        [[{"name": "a", "mountPath": "/a"}], [{"name": "cache", "mountPath": "/b", "subPath": "c"}]],
        [[{"name": "b", "mountPath": "/a"}], [{"name": "a", "mountPath": "/tmp"}], [{"name": "a", "mountPath": "/tmp/"}], [{"name": "a", "mountPath": "/a"}] * 2, [{"name": "a", "mountPath": "/a:b"}], [{"name": "a", "mountPath": "/a", "subPath": "../b"}], [{"name": "a"}],
            *([{**MOUNT, **field}] for field in ({"mountPath": ""}, {"mountPath": "a"}, {"mountPath": "/"}, {"mountPath": "//tmp"}, {"mountPath": "/tmp/."}, {"subPath": "a", "subPathExpr": "b"}, {"subPathExpr": "../b"}, {"mountPropagation": "Bidirectional"}, {"mountPropagation": "x"}, {"recursiveReadOnly": "Enabled"})),
        ],
        {"extraVolumes": EMPTY},
    ),
    Row("extraInitContainers", "containers with names that no other has", "pod", [[CONTAINER]], [[{**CONTAINER, "name": "onstage"}], [{**CONTAINER, "name": "A"}], [{"image": "a"}], [CONTAINER, CONTAINER], helper(volumeMounts=[{"name": "x", "mountPath": "/x"}]), helper(livenessProbe=GET), helper(lifecycle={"preStop": {"sleep": {"seconds": 1}}}), helper(restartPolicy="Never")]),
    Row(
        "extraContainers",
        "containers with names that no other has, and CPU requests with a target of CPU",
        "pod",
        [[CONTAINER], [{**CONTAINER, "ports": [{"name": "side-1", "containerPort": 9999}]}]],
        [[{**CONTAINER, "name": "onstage"}], [{**CONTAINER, "imagePull": "x"}], [CONTAINER, CONTAINER], [{**CONTAINER, "ports": [{"containerPort": 0}]}], [{**CONTAINER, "ports": [{"name": "A", "containerPort": 1}]}], [{**CONTAINER, "ports": [{"containerPort": 8080}]}], [{**CONTAINER, "resources": {"limits": {"cpu": "x"}}}], [{**CONTAINER, "image": "a b"}], [{**CONTAINER, "resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}],
            [{"name": "a"}], helper(name="a" * 64), helper(restartPolicy="Always"), helper(env=[{"name": "1"}]), helper(env=[{"name": "A"}] * 2), helper(ports=[{"containerPort": 9000, "name": "a"}, {"containerPort": 9001, "name": "a"}]), helper(ports=[{"containerPort": 9000, "hostIP": "x"}]), helper(resources={"limits": {"a b/c": 1}}), helper(resources={"claims": [{"name": "gpu"}]}),
            *(helper(livenessProbe=probe) for probe in ({}, {**GET, "successThreshold": 2}, {**GET, "exec": {"command": ["a"]}}, {**GET, "periodSeconds": 0}, {"httpGet": {"port": 0}}, {"httpGet": {"port": "A_b"}}, {"exec": {}})),
            helper(readinessProbe={**GET, "terminationGracePeriodSeconds": 5}), helper(lifecycle={"preStop": {}}), helper(lifecycle={"stopSignal": "SIGTERM"}),
            *(helper(securityContext=context) for context in ({"privileged": True, "allowPrivilegeEscalation": False}, {"capabilities": {"add": ["CAP_SYS_ADMIN"]}, "allowPrivilegeEscalation": False}, {"runAsNonRoot": True, "runAsUser": 0})),
            helper(volumeMounts=[{**MOUNT, "mountPropagation": "Bidirectional"}]), helper(volumeMounts=[{**MOUNT, "mountPath": "/a:b"}]),
        ],
    ),
    Row("extraArgs", "arguments, none of which other values write", "chart", [FLAGS[0], ["--log-level", "1e3"]], [*([flag] for flag in FLAGS[1]), *([flag] for flag in ("--port=1", "--base-path=/x", "--no-grpc", "--admin-token-file=/x", "--webhook-secret-file=/x")), ["--config", "x"]]),
    *(Row(f"shutdown.{name}", f"whole seconds, {least} to {most}", "chart", [least, most], [least - 1, most + 1, "30s", 1.5]) for name, least, most in (("delaySeconds", 0, 3600), ("drainSeconds", 1, 3600), ("preStopSeconds", 0, 3600), ("marginSeconds", 1, 600))),
    Row("probes.type", "`http` or `exec`; `exec` where clients must show certificates", "probe", ["", "http", "exec"], ["tcp", True]),
    Row("probes.scheme", "`HTTP` or `HTTPS`, as `config.server.tls` says", "probe", ["", "HTTP"], ["https", "HTTPS"]),
    Row("probes.exec.extraArgs", "texts, not empty", "probe", [["--cert=/c", "--key=/k"], ["1e3"]], [[""], [1]], {"probes": {"type": "exec"}}),
    *(Row(f"probes.{probe}.{name}", "a whole number, 1 or more", "probe", *POSITIVE) for probe, names in (("startup", ("periodSeconds", "failureThreshold")), ("readiness", ("periodSeconds", "failureThreshold", "timeoutSeconds")), ("liveness", ("periodSeconds", "failureThreshold", "timeoutSeconds"))) for name in names),
    resources("resources", "256Mi"),
    Row("podSecurityContext", "as in core/v1; a user other than 0, as it must not be root", "pod", [{"runAsUser": 1000}, {"supplementalGroups": [1]}], [{"runAsUser": 0}, {"runAsUser": -1}, {"runAsuser": 1}, {"fsGroupChangePolicy": "Never"}, {"supplementalGroups": [-1]}, {"sysctls": [{"name": "A b", "value": "1"}]}, {"sysctls": [{"name": "a", "value": "1"}] * 2}, {"seccompProfile": {"type": "Localhost"}}, {"appArmorProfile": {"type": "RuntimeDefault", "localhostProfile": "x"}}, {"runAsUser": 1.5}, {"windowsOptions": {}}]),
    Row("securityContext", "as in core/v1; a user other than 0, as it must not be root", "pod", [{"runAsUser": 1000}, {"capabilities": {"add": ["SYS_PTRACE"]}}], [{"runAsUser": 0}, {"privileged": True}, {"root": True}, {"seccompProfile": {"type": "x"}}, {"capabilities": {"add": ["CAP_SYS_ADMIN"]}}, {"procMount": "Unmasked"}]),
    Row("serviceAccount.create", "true or false", "chart", [True, False], ["yes", 0]),
    Row("serviceAccount.name", "a name", "name", *NAMES),
    Row("serviceAccount.annotations", "annotations", "annotations", *NOTES),
    Row("service.type", "one of three words", "service", ["ClusterIP", "NodePort", "LoadBalancer"], ["ExternalName", ""]),
    Row("service.httpPort", "1 to 65535, another than that of gRPC", "ports", [1, 443], [*PORTS[1], 8081]),
    Row("service.grpcPort", "1 to 65535, another than that of HTTP", "ports", [1, 443], [*PORTS[1], 80]),
    Row("service.annotations", "annotations", "annotations", *NOTES),
    Row("service.headless", "true or false", "chart", [True, False], ["yes", 1]),
    Row("deployment.annotations", "annotations", "annotations", *NOTES),
    Row("deployment.maxSurge", "a number or a percentage, not 0 where `maxUnavailable` is 0", "deployment", [1, "25%", "200%"], [*PERCENT[1], 0, "0%"]),
    Row("deployment.maxUnavailable", "a number, or a percentage up to 100%", "deployment", PERCENT[0], [*PERCENT[1], "101%"]),
    Row("deployment.minReadySeconds", "whole seconds, below `progressDeadlineSeconds`", "deployment", [0, 599], [-1, 600, 700, 1.5]),
    Row("deployment.revisionHistoryLimit", "a whole number, 0 or more", "int32", [0, *NUMBERS[0]], NUMBERS[1]),
    Row("deployment.progressDeadlineSeconds", "whole seconds, above `minReadySeconds`", "deployment", [6, 1_000_000], [5, 1, 0, 2**31]),
    Row("nodeSelector", "labels", "labels", *LABELS),
    Row(
        "tolerations",
        "as in core/v1: no value with `Exists`, a key without it, seconds with `NoExecute` alone",
        "pod",
        [[{"key": "a", "operator": "Exists"}], [{"key": "a", "value": "b", "effect": "NoSchedule"}], [{"operator": "Exists"}], [{"key": "a", "value": "007", "effect": "NoExecute", "tolerationSeconds": 5}]],
        [[{"key": "a", "operator": "Exists", "value": "b"}], [{"value": "b"}], [{"key": "a", "effect": "Never"}], [{"key": "a", "tolerationSeconds": 5}], [{"key": "a b", "operator": "Exists"}], [{"key": "a", "value": "b/c"}], [{"Key": "a"}]],
    ),
    Row(
        "affinity",
        "as in core/v1",
        "pod",
        [apart(labelSelector={"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["on", "007"]}]}), terms(operator="Gt", values=["-5"]), terms(operator="DoesNotExist")],
        [{"nodeaffinity": {}}, *(apart(**term) for term in ({"topologyKey": "a b"}, {"topologyKey": ""}, {"namespaces": ["A"]}, {"matchLabelKeys": ["a"]}, {"labelSelector": {"matchLabels": {"a": "b/c"}}}, {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}})), *(terms(**term) for term in ({"key": "a b", "operator": "Exists"}, {"operator": "In"}, {"operator": "In", "values": []}, {"operator": "In", "values": ["b/c"]}, {"operator": "Gt", "values": ["x"]}, {"operator": "Gt", "values": ["1", "2"]}, {"operator": "Like", "values": ["x"]})), {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101, "podAffinityTerm": {"topologyKey": "a"}}]}}, {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}],
    ),
    Row("priorityClassName", "a name", "name", *NAMES),
    Row(
        "topologySpreadConstraints",
        "as in core/v1, each pair of key and action once",
        "pod",
        [[{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}]],
        [[{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}], [{"maxSkew": 1, "topologyKey": "a b", "whenUnsatisfiable": "DoNotSchedule"}], [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "Never"}], [{"maxSkew": 1, "topologyKey": "a"}], [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway"}] * 2, [{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2}],
            *([{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", **field}] for field in ({"matchLabelKeys": ["a"]}, {"labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["a"]}, {"labelSelector": {"matchLabels": {"-a": "b"}}}, {"topologyKey": ""})),
        ],
    ),
    Row("autoscaling.enabled", "true or false; not beside KEDA, and with something to scale on", "hpa", [True, False], ["yes", 1]),
    Row("autoscaling.minReplicas", "1 to `maxReplicas`", "hpa", [1, 10], [0, 11, "2"], SCALE),
    Row("autoscaling.maxReplicas", "`minReplicas` or more", "hpa", [2, 1_000_000], [1, 0, 2**31], SCALE),
    Row("autoscaling.targetCPUUtilizationPercentage", "0 to 1000", "hpa", [1, 1000], [0, -1, 1001, "70%"], SCALE),
    Row("autoscaling.targetSaturation", "a share above 0, as a quantity", "hpa", ["700m", "0.7", ".5", "1"], ["0", "0m", ".0", "70%", "2", 0.7], SCALE),
    Row(
        "autoscaling.extraMetrics",
        "as in autoscaling/v2, with a target above 0",
        "hpa",
        [[{"type": "External", "external": {"metric": {"name": "a"}, "target": {"type": "AverageValue", "averageValue": "1"}}}], [{"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 70}}}]],
        [[{"type": "External"}], [{"type": "x"}], [{"type": "External", "external": {"metric": {"name": "a"}, "target": {"type": "Value", "value": "0"}}}], [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 0}}}],
            *(metric("Resource", "resource", target, name="cpu") for target in ({"type": "Utilization"}, {"type": "Utilization", "averageValue": "1"}, {"type": "Value", "value": "1"})),
            *(metric("External", "external", {"type": "Value", "value": "1"}, metric=named) for named in ({"name": "a/b"}, {"name": ".."}, {"name": ""}, {"name": "a", "selector": {"matchLabels": {"a": "b/c"}}})),
            [{"type": "External", "external": {"metric": {"name": "a"}, "target": {"type": "Value", "value": "1"}}, "pods": {"metric": {"name": "a"}, "target": {"type": "AverageValue", "averageValue": "1"}}}],
        ],
        SCALE,
    ),
    Row("autoscaling.behavior", "as in autoscaling/v2", "hpa", [{"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1800}]}}], [{"scaleDown": {"stabilizationWindowSeconds": 3601}}, {"scaleUp": {"policies": []}}, {"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1}]}}, {"scaleup": {}}, {"scaleUp": {"selectPolicy": "Most"}}, {"scaleUp": {"tolerance": "-1"}}], SCALE),
    Row("keda.enabled", "true or false; not beside `autoscaling`", "keda", [True, False], ["yes", 1]),
    Row("keda.minReplicas", "0 to `maxReplicas`", "keda", [0, 10], [-1, 11, "2"], KEDA),
    Row("keda.maxReplicas", "`minReplicas` or more", "keda", [2, 1_000_000], [1, 0, 2**31], KEDA),
    Row("keda.pollingInterval", "whole seconds, 1 or more", "keda", *POSITIVE, KEDA),
    Row("keda.cooldownPeriod", "whole seconds, 0 or more", "keda", [0, *NUMBERS[0]], NUMBERS[1], KEDA),
    Row("keda.prometheusAddress", "an address of http or https", "keda", ["http://p:9090", "https://p/x?y=z#1"], ["p:9090", "", "http://", "http://a b"], KEDA),
    Row("keda.targetSaturation", "a share above 0", "keda", ["0.7", "1", ".25"], ["0", "0.0", "700m", "1.5", "", 0.7], KEDA),
    Row("keda.extraTriggers", "triggers with a type and texts", "keda", [[{"type": "cron", "metadata": {"desiredReplicas": "5"}}]], [[{"metadata": {}}], [{"type": "cron", "metadata": {"desiredReplicas": 5}}], ["cron"]], KEDA),
    Row("podDisruptionBudget.enabled", "true or false", "chart", [True, False], ["yes", 1]),
    Row("podDisruptionBudget.maxUnavailable", "a number, or a percentage up to 100%", "budget", PERCENT[0], [*PERCENT[1], "101%"]),
    Row("networkPolicy.enabled", "true or false", "chart", [True, False], ["yes", 1]),
    Row("networkPolicy.from", "peers: selectors, or a network alone", "policy", *PEERS, POLICY),
    Row("networkPolicy.metricsFrom", "peers: selectors, or a network alone", "policy", *PEERS, POLICY),
    Row(
        "networkPolicy.egress",
        "rules of ports and peers; of `endPort` and `except` what lies within",
        "policy",
        [[{"ports": [{"port": 443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}], [{"ports": [{"port": 1000, "endPort": 2000}]}], [{"ports": [{"port": "https"}]}]],
        [[{"ports": [{"port": 0}]}, {"ports": [{"port": 65536}]}], [{"ports": [{"port": "a" * 16}]}], [{"ports": [{"endPort": 5}]}], [{"ports": [{"port": 2000, "endPort": 1000}]}], [{"ports": [{"port": "A_b"}]}], [{"to": [{}]}], [{"port": 443}], [{"ports": [{"port": 1, "protocol": "ICMP"}]}]],
        POLICY,
    ),
    *(
        row
        for monitor in ("serviceMonitor", "podMonitor")
        for row in (
            Row(f"metrics.{monitor}.enabled", "true or false; of two monitors one, with credentials where callers need them", "chart", [True, False], ["yes", 1]),
            Row(f"metrics.{monitor}.interval", "a time of Prometheus", "monitor", ["15s", "1m30s", "500ms"], ["15", "", "15 s", "1d", 15], {"metrics": {monitor: {"enabled": True}}}),
            Row(f"metrics.{monitor}.labels", "labels, but those of the chart", "labels", LABELS[0], [*LABELS[1], OURS], {"metrics": {monitor: {"enabled": True}}}),
            Row(f"metrics.{monitor}.endpoint", "fields of the endpoint; credentials where `config.auth` asks for them, a certificate with mutual TLS", "monitor", [{"authorization": {"credentials": {"name": "a", "key": "b"}}}], [{}, "a", *({"authorization": {}, **field} for field in ({"scheme": "ftp"}, {"interval": "1s"}, {"port": "grpc"}, {"path": "/"}, {"scrapeTimeout": "x"}, {"honorLabels": "yes"}))], {"metrics": {monitor: {"enabled": True}}, "config": CALLERS}),
        )
    ),
    Row("metrics.prometheusRule.enabled", "true or false", "chart", [True, False], ["yes", 1]),
    Row("metrics.prometheusRule.labels", "labels, but those of the chart", "labels", LABELS[0], [*LABELS[1], OURS], {"metrics": {"prometheusRule": {"enabled": True}}}),
    Row("metrics.prometheusRule.disabled", "texts, not empty", "chart", [["OnstageModelDown"]], [[""], "a"], {"metrics": {"prometheusRule": {"enabled": True}}}),
    Row("metrics.prometheusRule.runbookBaseUrl", "an address of http or https", "chart", ["https://wiki/x"], ["wiki/x", "https://"], {"metrics": {"prometheusRule": {"enabled": True}}}),
    Row("metrics.prometheusRule.extraRules", "rules with an expression, and the name of an alert or a record", "monitor", [[{"alert": "A", "expr": "up == 0", "for": "5m"}], [{"record": "a:b", "expr": "1"}]], [[{"alert": "A"}], [{"expr": "1"}], ["a"], [{"alert": "A", "record": "b", "expr": "1"}], [{"alert": "A", "expr": "1", "for": "5"}]], {"metrics": {"prometheusRule": {"enabled": True}}}),
    Row("metrics.dashboard.enabled", "true or false", "chart", [True, False], ["yes", 1]),
    Row("metrics.dashboard.labels", "labels, but those of the chart", "labels", LABELS[0], [*LABELS[1], OURS], {"metrics": {"dashboard": {"enabled": True}}}),
    Row("metrics.dashboard.annotations", "annotations", "annotations", *NOTES, {"metrics": {"dashboard": {"enabled": True}}}),
    Row("ingress.enabled", "true or false; with hosts", "ingress", [False], ["yes", 1, True]),
    Row("ingress.className", "a name", "name", *NAMES, INGRESS),
    Row("ingress.annotations", "annotations", "annotations", *NOTES, INGRESS),
    Row(
        "ingress.hosts",
        "host names in lower case, with paths that begin with `/` and have no `//`, `/../` or `%2f`",
        "ingress",
        [*([{"host": host, "paths": [{"path": "/", "pathType": "Exact"}]}] for host in HOSTS[0]), *(paths(path) for path in PATHS[0])],
        [*([{"host": host, "paths": [{"path": "/", "pathType": "Exact"}]}] for host in HOSTS[1]), *(paths(path) for path in PATHS[1]), [{"host": "a", "paths": [{"path": "/", "pathType": "Regex"}]}], [{"host": "a"}], paths("")],
        INGRESS,
    ),
    Row("ingress.tls", "as in networking/v1", "ingress", [[{"secretName": "a.b", "hosts": ["a.b", "*.c"]}], [{"hosts": ["a"]}]], [[{"secretName": "A"}], [{"hosts": ["A.b"]}], [{"secret": "a"}]], INGRESS),
    Row("httpRoute.enabled", "true or false; with Gateways", "gateway", [False], ["yes", 1, True]),
    Row("httpRoute.parentRefs", "at most 32 Gateways by name", "gateway", [[{"name": "a", "namespace": "b", "sectionName": "https", "port": 443}]], [[{}], [{"name": "a"}, {"name": "a"}], [{"name": "a", "sectionName": "b"}] * 2, [{"name": "a", "sectionName": "b"}, {"name": "a"}], [{"name": "a", "group": "A"}], [{"name": "a", "kind": "a b"}], [{"name": "A"}], [{"name": "a", "namespace": "B"}], [{"name": "a", "port": 0}], [{"name": "a"}] * 33, []], GATE),
    Row("httpRoute.hostnames", "at most 16 host names in lower case", "gateway", [[host] for host in HOSTS[0]], [*([host] for host in HOSTS[1]), [""], ["a"] * 17], GATE),
    Row("httpRoute.annotations", "annotations", "annotations", *NOTES, GATE),
    Row("httpRoute.path", "a path of at most 1024 characters without `//`, `/../` and `%2f`", "gateway", PATHS[0], [*PATHS[1], "/" + "a" * 1024, "/ü", ""], GATE),
    Row("tests.enabled", "true or false", "chart", [True, False], ["yes", 1]),
    Row("tests.url", "an address of http or https", "chart", ["https://models.example.com:8443/ml"], ["models", "http://", "http://a b", 1]),
    Row("tests.extraArgs", "texts, not empty", "chart", [["--ca-file=/c"], ["1e3"]], [[""], [1]]),
    resources("tests.resources", "32Mi"),
]

# What several values say together: settings, and a part of the sentence.
TOGETHER = [
    ({**SCALE, **KEDA}, "so choose one"),
    ({"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}, "is a share of `resources.requests.cpu`, which is not set"),
    ({**SCALE, "extraContainers": [CONTAINER]}, "`extraContainers[0]` has none"),
    ({"models": {"pvc": {"claimName": "a"}, "ociImage": {"reference": "b:1"}}}, "all fill /mnt/models: choose one"),
    ({"models": {"download": {"targets": ["models:/a/1"]}}}, "no registry to copy them from"),
    ({"config": MUTUAL, "probes": {"type": "http"}}, "the kubelet has no certificate to show"),
    ({"config": MUTUAL, "metrics": {"podMonitor": {"enabled": True}}}, "shows no certificate"),
    ({"config": {"server": {"tls": {"cert_file": "/c", "key_file": "/k"}}}, "probes": {"scheme": "HTTP"}}, "speaks TLS only"),
    ({"config": {"server": {"tls": {"cert_file": "/c"}}}}, "but not `config.server.tls.key_file`"),
    ({"config": {"server": {"tls": {"cert_file": "/c", "key_file": "/k", "client_auth": "required"}}}}, "names no authority of clients"),
    ({"config": CALLERS, "metrics": {"serviceMonitor": {"enabled": True}}}, "/metrics would answer 401"),
    ({"config": {"auth": {"jwt": {"jwks": "/k"}}}, "metrics": {"podMonitor": {"enabled": True}}}, "/metrics would answer 401"),
    ({"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}}, "every pod would be counted twice"),
    ({"ingress": {**INGRESS["ingress"], "className": "a", "annotations": {"kubernetes.io/ingress.class": "a"}}}, "both name a class"),
    ({"deployment": {"maxSurge": "0%", "maxUnavailable": "0%"}}, "nothing could ever be replaced"),
    ({"admin": {"enabled": True, "tokenSecret": {"name": "a"}, "port": 8081}}, "are both 8081"),
    ({"secretMounts": [{"name": "a", "secretName": "a"}], "extraVolumes": [{"name": "secret-a", "emptyDir": {}}]}, "`secret-a` is there twice"),
    ({"admin": {"enabled": True, "tokenSecret": {"name": "a"}}, "extraContainers": [{**CONTAINER, "ports": [{"containerPort": 8082}]}]}, "8082"),
]
