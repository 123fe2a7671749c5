"""Metrics, alerts and the dashboard: against real Prometheus, which scrapes the real binary."""

import json
import re
import shutil
import urllib.parse

import promql_parser
import pytest
import yaml
from server import Server
from shell import CHART, IRIS, REQUEST, ROOT, ask, environment, free_port, predicts, process, run, until

ALERTS = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((CHART / "files/dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Metrics that a server has only once something rare happened, which no test of a healthy server makes happen.
RARE = {"onstage_requests_rejected_total", "onstage_payload_rows_total"}


def without_variables(expression):
    """As Grafana sends it to Prometheus, with `All` chosen."""
    expression = expression.replace("$__rate_interval", "1m")
    return re.sub(r"\$(namespace|model)\b", ".*", expression)


def dashboard_expressions():
    return [without_variables(target["expr"]) for panel in PANELS for target in panel["targets"]] + [
        without_variables(annotation["expr"]) for annotation in DASHBOARD["annotations"]["list"]
    ]


def metrics_of(expression):
    """Names of the series that an expression reads."""
    promql_parser.parse(expression)
    return set(re.findall(r"\b((?:onstage|process)_[a-z_]+)\b(?!\s*[=!]~?)", re.sub(r'"[^"]*"', '""', expression)))


EXPRESSIONS = dashboard_expressions() + [rule["expr"] for rule in RULES]


@pytest.fixture(scope="module")
def server(binary, tmp_path_factory):
    """A server that follows a registry of files, in which a swap and a bad candidate have happened."""
    directory = tmp_path_factory.mktemp("registry")
    registry = directory / "registry"

    def change(*arguments):
        return run(binary, "registry", *arguments, "--registry", registry, env=environment())

    def promote(package):
        version = change("register", "iris", package).split()[-1]
        change("alias", "iris", "champion", version)
        return version

    promote(IRIS)
    arguments = ["--registry", registry, "--follow", "@champion", "--cache-dir", directory / "cache", "--engine", "tract"]
    with Server(binary, arguments, environment()) as running:
        until(lambda: predicts(running.http), "the model answers")
        assert promote(IRIS) == "2"
        until(lambda: ask(running.http, "/v2/models/iris/versions/2/ready")[0] == 200, "the second version is on stage")
        # Clients of iris could not go on.
        promote(IRIS.parent / "digits")
        until(lambda: "onstage_candidate_failures_total{" in scrape(running.http), "the bad candidate failed")
        for _ in range(20):
            predicts(running.http)
        ask(running.http, "/invocations", b'{"inputs": "wrong"}')
        yield running


def scrape(address):
    return ask(address, "/metrics")[1].decode()


@pytest.fixture(scope="module")
def prometheus(tools, server, tmp_path_factory):
    """Prometheus with the configuration of compose.yaml, but for the address; answers queries."""
    directory = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    text = (ROOT / "docker/prometheus.yml").read_text().replace("onstage:8080", server.http).replace("5s", "1s")
    (directory / "prometheus.yml").write_text(text)
    shutil.copy(CHART / "files/alerts.yaml", directory)
    arguments = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    arguments += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with process(tools / "debian/usr/bin/prometheus", *arguments, log=directory / "log"):

        def query(expression):
            status, body = ask(f"127.0.0.1:{port}", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
            if status == 503:
                raise ConnectionError("Prometheus is starting")
            answer = json.loads(body)
            assert status == 200 and answer["status"] == "success", (expression, answer)
            return answer["data"]["result"]

        query.port = port
        # Rates need two scrapes.
        until(lambda: query('min_over_time(up{job="onstage"}[1m]) == 1 and count_over_time(up[1m]) > 4'), "Prometheus has scraped")
        yield query


def test_the_metrics_are_well_formed(tools, server):
    run(tools / "debian/usr/bin/promtool", "check", "metrics", input=scrape(server.http), stdin=None)


def test_the_rules_are_well_formed_and_each_alert_fires_as_it_should(tools):
    promtool = tools / "debian/usr/bin/promtool"
    run(promtool, "check", "rules", CHART / "files/alerts.yaml")
    run(promtool, "check", "config", "--syntax-only", ROOT / "docker/prometheus.yml")
    run(promtool, "test", "rules", ROOT / "tests/packaging/alerts_test.yaml")


def test_each_alert_is_tested_both_ways():
    tests = yaml.safe_load((ROOT / "tests/packaging/alerts_test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fires == {rule["alert"] for rule in RULES}


def test_each_alert_has_a_runbook_and_each_runbook_an_alert():
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{rule['alert']}.md"
        assert rule["labels"]["severity"] in {"warning", "critical"} and rule["annotations"]["summary"]
    pages = {page.stem for page in (ROOT / "docs/runbooks").glob("*.md")} - {"README"}
    assert pages == {rule["alert"] for rule in RULES}
    index = (ROOT / "docs/runbooks/README.md").read_text()
    for rule in RULES:
        page = (ROOT / rule["annotations"]["runbook"]).read_text()
        assert page.startswith(f"# {rule['alert']}\n") and "\n## Look\n" in page and "\n## Do\n" in page
        assert f"| [{rule['alert']}]({rule['alert']}.md) | {rule['labels']['severity']} |" in index


def test_the_chart_makes_the_same_alerts(tools):
    values = CHART / "ci/monitoring-values.yaml"
    text = run(tools / "helm4/helm/helm", "template", "onstage", CHART, "-f", values)
    (made,) = [found for found in yaml.safe_load_all(text) if found and found["kind"] == "PrometheusRule"]
    rules = [rule for group in made["spec"]["groups"] for rule in group["rules"]]
    assert rules.pop()["alert"] == "FraudIsSlow"
    for rule in rules:
        assert rule["annotations"].pop("runbook_url") == f"https://wiki.example.com/runbooks/{rule['alert']}.md"
    assert rules == [rule for rule in RULES if rule["alert"] != "OnstageNonfiniteOutputs"]


def test_the_dashboard_is_laid_out_without_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}" and panel["description"], panel["title"]
    titles = " ".join(panel["title"] for panel in PANELS).lower()
    for topic in ("percentile", "swap", "batch", "queue", "saturation", "memory by model", "registry", "requests"):
        assert topic in titles, topic
    assert [annotation["name"] for annotation in DASHBOARD["annotations"]["list"]] == ["Swaps", "Failed candidates"]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_reads_metrics_that_a_server_has(server, expression):
    text = scrape(server.http)
    there = set(re.findall(r"^([a-z_]+)[{ ]", text, re.MULTILINE))
    wanted = metrics_of(expression)
    assert wanted, "an expression that reads nothing shows nothing"
    assert wanted - RARE <= there, wanted - there


def test_rare_metrics_are_documented():
    page = (ROOT / "docs/reference/metrics.md").read_text()
    for name in RARE:
        assert f"`{name}`" in page


def test_prometheus_takes_every_expression_and_most_show_something(prometheus):
    empty = [expression for expression in dashboard_expressions() if not prometheus(expression)]
    for rule in RULES:
        prometheus(rule["expr"])
    # Nothing waits, is refused or fails on a quiet server, and what was one scrape ago has no increase yet.
    quiet = re.compile(r"rejected|server_error|rate\(|increase\(|nonfinite|registry_syncs")
    assert not [expression for expression in empty if not quiet.search(expression)], empty


def test_prometheus_reads_the_alerts_and_the_failed_candidate_fires(prometheus):
    def firing():
        _, body = ask(f"127.0.0.1:{prometheus.port}", "/api/v1/alerts")
        return {alert["labels"]["alertname"] for alert in json.loads(body)["data"]["alerts"] if alert["state"] == "firing"}

    until(lambda: "OnstageCandidateFailed" in firing(), "the alert fires")
    assert firing() == {"OnstageCandidateFailed"}


def test_saturation_follows_the_load_and_stays_within_0_and_1(server):
    def saturation():
        return float(re.search(r"^onstage_saturation_ratio (\S+)$", scrape(server.http), re.MULTILINE)[1])

    before = saturation()
    rows = REQUEST.replace(b"[[5.1, 3.5, 1.4, 0.2]]", b"[" + b",".join([b"[5.1, 3.5, 1.4, 0.2]"] * 20_000) + b"]")

    def grown():
        assert ask(server.http, "/invocations", rows)[0] == 200
        return before < saturation() <= 1

    until(grown, "saturation grows under load")
