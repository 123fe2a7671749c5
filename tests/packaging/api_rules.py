"""What the API server checks beyond its schemas, written anew from the validation code of Kubernetes 1.37 (pkg/apis/*/validation and
apimachinery's util/validation), so that it agrees with the chart only where the chart is right."""

import ipaddress
import math
import re
from decimal import Decimal

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
RFC_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
QUANTITY = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(n|u|m||k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)\Z")
POWERS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
ANNOTATIONS = 256 * 1024


class Found(list):
    """Complaints, each with the path of what is wrong."""

    def __call__(self, wrong, path, text):
        if wrong:
            self.append(f"{path}: {text}")


def is_label(text):
    return len(text) <= 63 and bool(LABEL.match(text))


def is_subdomain(text):
    return len(text) <= 253 and bool(SUBDOMAIN.match(text))


def is_service_name(text):
    return len(text) <= 63 and bool(RFC_1035.match(text))


def is_qualified(key):
    prefix, slash, name = key.rpartition("/")
    return (not slash or is_subdomain(prefix)) and "/" not in name and len(name) <= 63 and bool(QUALIFIED.match(name))


def is_label_value(text):
    return isinstance(text, str) and len(text) <= 63 and (text == "" or bool(QUALIFIED.match(text)))


def quantity(value):
    """The number that a quantity is, or `None`."""
    match = QUANTITY.match(str(value))
    if not match:
        return None
    sign, number, suffix = match.groups()
    if suffix.endswith("i"):
        factor = Decimal(1024) ** ("KMGTPE".index(suffix[0]) + 1)
    elif suffix[:1] in ("e", "E") and suffix[1:]:
        factor = Decimal(10) ** int(suffix[1:])
    else:
        factor = Decimal(10) ** POWERS[suffix]
    return (-1 if sign == "-" else 1) * Decimal(number) * factor


def int_or_percent(value, pods=100, up=True):
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"(\d+)%", value)
    return None if not match else (math.ceil if up else math.floor)(int(match[1]) * pods / 100)


def unique(found, values, path):
    for value in {value for value in values if values.count(value) > 1}:
        found(True, path, f"duplicate {value!r}")


def labels(found, table, path):
    for key, value in (table or {}).items():
        found(not is_qualified(key), path, f"key {key!r}")
        found(not is_label_value(value), path, f"value {value!r} of {key}")


def metadata(found, entry, kind):
    meta = entry["metadata"]
    name = meta.get("name")
    if name is not None:
        good = is_service_name(name) if kind == "Service" else is_subdomain(name)
        found(not good, "metadata.name", repr(name))
        found(not is_label(meta["namespace"]), "metadata.namespace", repr(meta["namespace"]))
        # KEDA writes the name into a label, Kubernetes the pod's into a host's name.
        found(kind == "ScaledObject" and len(name) > 63, "metadata.name", "too long for a label")
    labels(found, meta.get("labels"), "metadata.labels")
    annotations = meta.get("annotations") or {}
    for key, value in annotations.items():
        found(not is_qualified(key.lower()), "metadata.annotations", f"key {key!r}")
        found(not isinstance(value, str), "metadata.annotations", f"value of {key}")
    found(sum(len(key.encode()) + len(str(value).encode()) for key, value in annotations.items()) > ANNOTATIONS, "metadata.annotations", "too long")


def selected(found, selector, template, path):
    found(not selector, path, "empty")
    labels(found, selector, path)
    found(any(template.get(key) != value for key, value in selector.items()), path, "does not select the template")


def deployment(found, entry):
    spec = entry["spec"]
    template = spec["template"]
    metadata(found, template, "PodTemplate")
    selected(found, spec["selector"]["matchLabels"], template["metadata"]["labels"], "spec.selector")
    for name in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        found(not 0 <= spec.get(name, 0) <= 2**31 - 1, f"spec.{name}", str(spec.get(name)))
    found(spec["progressDeadlineSeconds"] <= spec["minReadySeconds"], "spec.progressDeadlineSeconds", "must be greater than minReadySeconds")
    rolling = spec["strategy"]["rollingUpdate"]
    surge, unavailable = int_or_percent(rolling["maxSurge"]), int_or_percent(rolling["maxUnavailable"], up=False)
    found(surge is None or unavailable is None or surge < 0 or unavailable < 0, "spec.strategy", "no number and no percentage")
    found(not surge and not unavailable, "spec.strategy", "both 0")
    found(isinstance(rolling["maxUnavailable"], str) and (unavailable or 0) > 100, "spec.strategy", "above 100 %")
    found(template["spec"].get("restartPolicy", "Always") != "Always", "spec.template", "restartPolicy")
    pod(found, template["spec"], "spec.template.spec")


def pod(found, spec, path):
    volumes = [volume["name"] for volume in spec.get("volumes") or []]
    unique(found, volumes, f"{path}.volumes")
    for volume in spec.get("volumes") or []:
        found(not is_label(volume["name"]), f"{path}.volumes", repr(volume["name"]))
        sources = set(volume) - {"name"}
        found(len(sources) > 1, f"{path}.volumes", f"{volume['name']} has {sources}")
        size = (volume.get("emptyDir") or {}).get("sizeLimit")
        found(size is not None and (quantity(size) is None or quantity(size) < 0), f"{path}.volumes", f"sizeLimit {size!r}")
        for kind, key in (("secret", "secretName"), ("configMap", "name"), ("persistentVolumeClaim", "claimName")):
            found(kind in volume and not is_subdomain(volume[kind].get(key, "")), f"{path}.volumes", f"{kind} of {volume['name']}")
        for item in (volume.get("downwardAPI") or {}).get("items", []):
            key = re.fullmatch(r"metadata\.annotations\['(.*)'\]", item["fieldRef"]["fieldPath"])
            found(not key or not is_qualified(key[1].lower()), f"{path}.volumes", item["fieldRef"]["fieldPath"])
    containers = (spec.get("initContainers") or []) + spec["containers"]
    unique(found, [each["name"] for each in containers], f"{path}.containers")
    for each in containers:
        container(found, each, volumes, f"{path}.containers[{each['name']}]")
    ports = [(port.get("protocol", "TCP"), port["containerPort"]) for each in spec["containers"] for port in each.get("ports") or []]
    unique(found, ports, f"{path}.ports")
    found(not 0 <= spec.get("terminationGracePeriodSeconds", 30) < 2**31, path, "terminationGracePeriodSeconds")
    sleep = (((spec["containers"][0].get("lifecycle") or {}).get("preStop") or {}).get("sleep") or {}).get("seconds", 0)
    found(sleep > spec.get("terminationGracePeriodSeconds", 30), path, "preStop sleeps too long")
    labels(found, spec.get("nodeSelector"), f"{path}.nodeSelector")
    unique(found, [each["name"] for each in spec.get("imagePullSecrets") or []], f"{path}.imagePullSecrets")
    for name in [each["name"] for each in spec.get("imagePullSecrets") or []]:
        found(not is_subdomain(name), f"{path}.imagePullSecrets", repr(name))
    for name in ("priorityClassName", "serviceAccountName"):
        found(name in spec and not is_subdomain(spec[name]), f"{path}.{name}", repr(spec.get(name)))
    for each in spec.get("tolerations") or []:
        toleration(found, each, f"{path}.tolerations")
    spread = [(each["topologyKey"], each["whenUnsatisfiable"]) for each in spec.get("topologySpreadConstraints") or []]
    unique(found, spread, f"{path}.topologySpreadConstraints")
    for each in spec.get("topologySpreadConstraints") or []:
        found(each["maxSkew"] < 1 or not is_qualified(each["topologyKey"]), f"{path}.topologySpreadConstraints", str(each))
        found("minDomains" in each and each["whenUnsatisfiable"] != "DoNotSchedule", f"{path}.topologySpreadConstraints", "minDomains")
    contexts = [spec.get("securityContext") or {}] + [each.get("securityContext") or {} for each in containers]
    for outer in contexts:
        found(outer.get("runAsNonRoot") and outer.get("runAsUser") == 0, f"{path}.securityContext", "root that must not be root")
    # What only shows when the container is started.
    merged = {**contexts[0], **(spec["containers"][0].get("securityContext") or {})}
    found(merged.get("runAsNonRoot") and merged.get("runAsUser", 65532) == 0, f"{path}.securityContext", "root that must not be root")
    if merged.get("runAsUser", 65532) != 0:
        found(any(port["containerPort"] < 1024 for port in spec["containers"][0].get("ports") or []), f"{path}.ports", "below 1024")


def toleration(found, each, path):
    operator = each.get("operator") or "Equal"
    found(each.get("key") and not is_qualified(each["key"]), path, f"key {each.get('key')!r}")
    found(not each.get("key") and operator != "Exists", path, "no key")
    found(operator == "Exists" and each.get("value"), path, "a value with Exists")
    found(operator == "Equal" and not is_label_value(each.get("value", "")), path, f"value {each.get('value')!r}")
    found("tolerationSeconds" in each and each.get("effect") != "NoExecute", path, "tolerationSeconds")


def container(found, entry, volumes, path):
    found(not is_label(entry["name"]), path, "name")
    image = entry.get("image", "")
    # The kubelet reads the image, and waits for ever with one that it does not understand.
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        name = head
        found(not re.fullmatch(r"\w[\w.-]{0,127}", tag, re.ASCII), path, f"tag {tag!r}")
    host, slash, rest = name.partition("/")
    is_host = slash and ("." in host or ":" in host or host == "localhost" or host != host.lower())
    for part in (rest if is_host else name).split("/"):
        found(not re.fullmatch(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", part), path, f"image {image!r}")
    resources(found, entry.get("resources") or {}, f"{path}.resources")
    variables = [each["name"] for each in entry.get("env") or []]
    # A merge by name, as server-side apply does it, takes each name once.
    unique(found, variables, f"{path}.env")
    for each in entry.get("env") or []:
        found(not re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*", each["name"]) or each["name"] in (".", ".."), f"{path}.env", repr(each["name"]))
        found("value" in each and "valueFrom" in each, f"{path}.env", f"{each['name']} twice")
        found("value" in each and not isinstance(each["value"], str), f"{path}.env", f"{each['name']} is no text")
    for each in entry.get("envFrom") or []:
        source = each.get("secretRef") or each.get("configMapRef")
        found(not source or not is_subdomain(source["name"]), f"{path}.envFrom", str(each))
    unique(found, [each["mountPath"] for each in entry.get("volumeMounts") or []], f"{path}.volumeMounts")
    for each in entry.get("volumeMounts") or []:
        found(each["name"] not in volumes, f"{path}.volumeMounts", f"no volume {each['name']}")
        found(":" in each["mountPath"], f"{path}.volumeMounts", each["mountPath"])
        sub = each.get("subPath", "")
        found(sub.startswith("/") or ".." in sub.split("/"), f"{path}.volumeMounts", f"subPath {sub!r}")
    names = [port["name"] for port in entry.get("ports") or [] if "name" in port]
    unique(found, names, f"{path}.ports")
    for name in names:
        found(not is_port_name(name), f"{path}.ports", repr(name))
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe(found, entry.get(name), names, f"{path}.{name}")
    context = entry.get("securityContext") or {}
    found(context.get("privileged") and context.get("allowPrivilegeEscalation") is False, path, "privileged without escalation")


def is_port_name(name):
    return len(name) <= 15 and bool(LABEL.match(name)) and "--" not in name and bool(re.search("[a-z]", name))


def probe(found, entry, names, path):
    if not entry:
        return
    found(sum(kind in entry for kind in ("httpGet", "exec", "tcpSocket", "grpc")) != 1, path, "expected one handler")
    for key in ("periodSeconds", "timeoutSeconds", "failureThreshold"):
        found(not 1 <= entry.get(key, 1) < 2**31, path, key)
    if get := entry.get("httpGet"):
        found(isinstance(get["port"], str) and get["port"] not in names, path, f"no port {get['port']}")
        found(not get.get("path", "/").startswith("/"), path, get.get("path"))


def resources(found, entry, path):
    requests, limits = entry.get("requests") or {}, entry.get("limits") or {}
    for half, table in (("requests", requests), ("limits", limits)):
        for name, value in table.items():
            known = name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-") or "/" in name
            found(not known or not is_qualified(name), f"{path}.{half}", f"name {name!r}")
            amount = quantity(value)
            found(amount is None or amount < 0, f"{path}.{half}", f"{name} {value!r}")
            whole = "/" in name or name.startswith("hugepages-")
            found(bool(whole and amount is not None and amount != int(amount)), f"{path}.{half}", f"{name} is no whole number")
    for name, value in requests.items():
        limit = limits.get(name)
        if quantity(value) is None or (limit is not None and quantity(limit) is None):
            continue
        found(limit is not None and quantity(value) > quantity(limit), path, f"{name}: request above limit")
        rigid = name.startswith("hugepages-") or ("/" in name and "kubernetes.io/" not in name)
        found(bool(rigid and (limit is None or quantity(limit) != quantity(value))), path, f"{name} cannot be overcommitted")
    huge = any(name.startswith("hugepages-") for name in {**requests, **limits})
    found(huge and not {"cpu", "memory"} & {*requests, *limits}, path, "huge pages alone")


def service(found, entry):
    spec = entry["spec"]
    labels(found, spec["selector"], "spec.selector")
    unique(found, [port["port"] for port in spec["ports"]], "spec.ports")
    unique(found, [port["name"] for port in spec["ports"]], "spec.ports")
    for port in spec["ports"]:
        found(not 1 <= port["port"] <= 65535, "spec.ports", str(port["port"]))
        found(not is_qualified(port.get("appProtocol", "http")), "spec.ports", "appProtocol")


def budget(found, entry):
    value = entry["spec"]["maxUnavailable"]
    number = int_or_percent(value)
    found(number is None or number < 0 or (isinstance(value, str) and number > 100), "spec.maxUnavailable", repr(value))


def autoscaler(found, entry):
    spec = entry["spec"]
    found(not 1 <= spec["minReplicas"] <= spec["maxReplicas"] < 2**31, "spec.minReplicas", str(spec["minReplicas"]))
    found(not spec["metrics"], "spec.metrics", "empty")
    for metric in spec["metrics"]:
        kind = metric["type"]
        source = metric.get(kind[0].lower() + kind[1:])
        found(source is None, "spec.metrics", f"{kind} without its source")
        for key, value in ((source or {}).get("target") or {}).items():
            if key == "averageUtilization":
                found(value < 1, "spec.metrics", f"{key} {value}")
            elif key != "type":
                found(quantity(value) is None or quantity(value) <= 0, "spec.metrics", f"{key} {value!r}")
    for rules in (spec.get("behavior") or {}).values():
        found(not 0 <= rules.get("stabilizationWindowSeconds", 0) <= 3600, "spec.behavior", "stabilizationWindowSeconds")
        for policy in rules.get("policies") or []:
            found(not 1 <= policy["periodSeconds"] <= 1800 or policy["value"] < 1, "spec.behavior", str(policy))


def scaled_object(found, entry):
    spec = entry["spec"]
    found(not 0 <= spec["minReplicaCount"] <= spec["maxReplicaCount"], "spec.minReplicaCount", "above maxReplicaCount")
    for trigger in spec["triggers"]:
        for key, value in trigger["metadata"].items():
            found(not isinstance(value, str), "spec.triggers", f"{key} is no text")
        if trigger["type"] == "prometheus":
            found(float(trigger["metadata"]["threshold"]) <= 0, "spec.triggers", "threshold")


def policy(found, entry):
    labels(found, entry["spec"]["podSelector"]["matchLabels"], "spec.podSelector")
    rules = [(rule, rule.get("from")) for rule in entry["spec"].get("ingress") or []]
    rules += [(rule, rule.get("to")) for rule in entry["spec"].get("egress") or []]
    for rule, peers in rules:
        for port in rule.get("ports") or []:
            value = port.get("port")
            good = is_port_name(value) if isinstance(value, str) else value is None or 1 <= value <= 65535
            found(not good, "spec.ports", repr(value))
            found("endPort" in port and (not isinstance(value, int) or port["endPort"] < value), "spec.ports", "endPort")
        for peer in peers or []:
            found(not peer, "spec.peers", "empty")
            found("ipBlock" in peer and len(peer) > 1, "spec.peers", "ipBlock beside selectors")
            for selector in ("podSelector", "namespaceSelector"):
                labels(found, (peer.get(selector) or {}).get("matchLabels"), f"spec.peers.{selector}")
            if block := peer.get("ipBlock"):
                network = cidr(block["cidr"])
                found(network is None, "spec.peers", block["cidr"])
                for part in block.get("except") or []:
                    found(cidr(part) is None or not cidr(part).subnet_of(network), "spec.peers", f"except {part}")


def cidr(text):
    try:
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def is_host(text):
    rest = text.removeprefix("*.")
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return is_subdomain(rest)
    return False


def is_url_path(text):
    return text.startswith("/") and not re.search(r"//|/\./|/\.\./|%2f|%2F|/\.\.$|/\.$", text)


def ingress(found, entry):
    spec = entry["spec"]
    found("ingressClassName" in spec and not is_subdomain(spec["ingressClassName"]), "spec.ingressClassName", repr(spec.get("ingressClassName")))
    for rule in spec["rules"]:
        found(rule.get("host") and not is_host(rule["host"]), "spec.rules", f"host {rule.get('host')!r}")
        for path in rule["http"]["paths"]:
            good = path["path"].startswith("/") if path["pathType"] == "ImplementationSpecific" else is_url_path(path["path"])
            found(not good, "spec.rules", f"path {path['path']!r}")
    for tls in spec.get("tls") or []:
        found(tls.get("secretName") and not is_subdomain(tls["secretName"]), "spec.tls", repr(tls.get("secretName")))
        for host in tls.get("hosts") or []:
            found(not is_host(host), "spec.tls", f"host {host!r}")


def http_route(found, entry):
    spec = entry["spec"]
    found(not 1 <= len(spec["parentRefs"]) <= 32, "spec.parentRefs", "number")
    for parent in spec["parentRefs"]:
        found(not 1 <= len(parent["name"]) <= 253, "spec.parentRefs", repr(parent["name"]))
    hosts = spec.get("hostnames") or []
    found(len(hosts) > 16, "spec.hostnames", "number")
    for host in hosts:
        found(not is_host(host), "spec.hostnames", repr(host))
    for rule in spec["rules"]:
        for match in rule["matches"]:
            value = match["path"]["value"]
            # The characters that the definition's own rule lists.
            good = is_url_path(value) and len(value) <= 1024 and re.fullmatch(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+", value)
            found(not good, "spec.rules", f"path {value!r}")


def monitor(found, entry):
    (endpoint,) = entry["spec"].get("endpoints") or entry["spec"]["podMetricsEndpoints"]
    found(not re.fullmatch(r"(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?", endpoint["interval"]) or not endpoint["interval"], "interval", endpoint["interval"])


CHECKS = {
    "Deployment": deployment,
    "Pod": lambda found, entry: pod(found, entry["spec"], "spec"),
    "Service": service,
    "PodDisruptionBudget": budget,
    "HorizontalPodAutoscaler": autoscaler,
    "ScaledObject": scaled_object,
    "NetworkPolicy": policy,
    "Ingress": ingress,
    "HTTPRoute": http_route,
    "ServiceMonitor": monitor,
    "PodMonitor": monitor,
}


def complaints(objects):
    """What the API server, or the kubelet after it, would refuse."""
    found = Found()
    for entry in objects:
        metadata(found, entry, entry["kind"])
        CHECKS.get(entry["kind"], lambda *_: None)(found, entry)
    names = [(entry["kind"], entry["metadata"]["name"]) for entry in objects]
    unique(found, names, "objects")
    deployments = [entry for entry in objects if entry["kind"] == "Deployment"]
    for entry in objects:
        if entry["kind"] in ("Service", "PodDisruptionBudget"):
            selector = entry["spec"]["selector"]
            selected(found, selector.get("matchLabels", selector), deployments[0]["spec"]["template"]["metadata"]["labels"], f"{entry['kind']}.selector")
    return list(found)
