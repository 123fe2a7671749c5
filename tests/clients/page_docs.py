"""A browser opens the page with the description of all paths, and predicts from it."""

import json
import os
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright
from server import ROOT, Server

# No sandbox: it needs rights that a container has not. The rest keeps the browser off the network.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    chromium = os.environ.get("CHROMIUM")
    assert chromium, "`CHROMIUM` names no browser: use `make test-clients`"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def artifacts(binary):
    """What people may want to look at afterwards; below the directory of the build, which nobody commits."""
    directory = binary.parent.parent / "clients"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.mark.parametrize("prefix", ["", "/ml"])
def test_the_page_predicts_without_any_other_server(binary, browser, artifacts, prefix):
    models = [ROOT / "model-examples/iris", ROOT / "model-examples/penguins"]
    arguments = [*models, "--default-model", "iris", "--engine", "onnxruntime", "--base-path", prefix]
    with Server(binary, arguments) as server:
        address = server.http.removesuffix(prefix)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://{address}{prefix}/docs")
        expect(page.locator(".info .title")).to_contain_text("onstage")
        page.screenshot(path=artifacts / f"docs{prefix.replace('/', '-')}.png")

        operation = page.locator("#operations-iris-post_models_name_invocations_1")
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table .response").first
        expect(answer.locator(".response-col_status")).to_contain_text("200")
        predictions = json.loads(answer.locator(".highlight-code code, .highlight-code pre").first.inner_text())
        operation.screenshot(path=artifacts / f"docs-prediction{prefix.replace('/', '-')}.png")
        page.close()

    assert set(predictions["predictions"]) == {"label", "probabilities"}
    assert not complaints
    assert f"http://{address}{prefix}/models/iris/invocations" in asked
    foreign = [url for url in asked if urlsplit(url).netloc != address and not url.startswith("data:")]
    assert not foreign
