"""An API server that knows Deployments, for Helm's `lookup`; it has what was put into it, and takes nothing."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

VERBS = ["get", "list", "create", "patch", "delete"]
KINDS = {
    "v1": ["Service", "ServiceAccount", "ConfigMap", "Pod", "Namespace"],
    "apps/v1": ["Deployment"],
    "policy/v1": ["PodDisruptionBudget"],
    "networking.k8s.io/v1": ["Ingress", "NetworkPolicy"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "monitoring.coreos.com/v1": ["ServiceMonitor", "PodMonitor", "PrometheusRule"],
    "keda.sh/v1alpha1": ["ScaledObject"],
    "gateway.networking.k8s.io/v1": ["HTTPRoute"],
}


def plural(kind):
    return {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"}.get(kind, f"{kind.lower()}s")


def resources(version, kinds):
    found = [{"name": plural(kind), "singularName": kind.lower(), "namespaced": kind != "Namespace", "kind": kind, "verbs": VERBS} for kind in kinds]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": found}


def group(version):
    name, _, number = version.partition("/")
    entry = {"groupVersion": version, "version": number}
    return {"name": name, "versions": [entry], "preferredVersion": entry}


FIXED = {
    "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(version) for version in KINDS if version != "v1"]},
    **{f"/{'apis' if '/' in version else 'api'}/{version}": resources(version, kinds) for version, kinds in KINDS.items()},
}


class Cluster:
    """Live Deployments by namespace and name; `arguments` lets Helm ask it."""

    def __init__(self, folder):
        self.deployments = {}
        self.asked = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        address = f"http://127.0.0.1:{self.server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "imitated",
            "contexts": [{"name": "imitated", "context": {"cluster": "imitated", "user": "imitated"}}],
            "clusters": [{"name": "imitated", "cluster": {"server": address}}],
            "users": [{"name": "imitated", "user": {}}],
        }
        self.config = folder / "kubeconfig"
        self.config.write_text(yaml.safe_dump(config))
        self.arguments = ["--dry-run=server", "--disable-openapi-validation", "--kubeconfig", self.config]

    def handler(cluster):  # noqa: N805, the server is `self` below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = self.path.partition("?")[0]
                cluster.asked.append(path)
                status, body = cluster.answer(path)
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        return Handler

    def answer(self, path):
        if path in FIXED:
            return 200, FIXED[path]
        parts = path.strip("/").split("/")
        if parts[:3] == ["apis", "apps", "v1"] and len(parts) in (6, 7) and parts[5] == "deployments":
            if len(parts) == 6:
                items = [found for (namespace, _), found in self.deployments.items() if namespace == parts[4]]
                return 200, {"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {}, "items": items}
            if found := self.deployments.get((parts[4], parts[6])):
                return 200, found
        return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": f"{path} not found", "code": 404}

    def run(self, deployment, release="onstage", replicas=None):
        """Makes a Deployment live, as Helm does."""
        live = json.loads(json.dumps(deployment))
        live["metadata"].setdefault("annotations", {})["meta.helm.sh/release-name"] = release
        live["metadata"]["annotations"]["meta.helm.sh/release-namespace"] = live["metadata"]["namespace"]
        live["spec"]["replicas"] = replicas if replicas is not None else live["spec"].get("replicas", 1)
        self.deployments[live["metadata"]["namespace"], live["metadata"]["name"]] = live
        return live

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
