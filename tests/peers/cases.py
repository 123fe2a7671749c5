"""A request, what the peer's own tests expect of its answer, and where onstage answers otherwise on purpose."""

import http.client
import json
import re
from dataclasses import dataclass, field

import pytest

TIMEOUT_SECONDS = 60
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Answer:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        """The body, or the JSON in front of the bytes of tensors."""
        return json.loads(self.body[: int(self.headers.get(HEADER_LENGTH.lower(), len(self.body)))])

    @property
    def tensors(self):
        """The bytes that follow the JSON."""
        return self.body[int(self.headers[HEADER_LENGTH.lower()]) :]

    @property
    def error(self):
        """The message of a refusal: `{"error": …}` of V1 and V2, `{"message": …}` of MLflow, or plain text."""
        if not self.headers.get("content-type", "").startswith("application/json"):
            return self.body.decode()
        told = json.loads(self.body)
        return told.get("error") or told.get("message") or told["detail"]


@dataclass(frozen=True)
class Case:
    """`status` and `says` are what the peer's tests expect; `ours`, with a reason, is the status of onstage where it differs."""

    what: str
    path: str
    body: object = None
    status: int = 200
    method: str = "POST"
    headers: dict = field(default_factory=dict)
    # The length of the body is not told.
    chunked: bool = False
    # A part of the error, by this regular expression: what the peer's message is about, not its words.
    says: str = ""
    # Called with the answer to a request that is served.
    check: object = None
    ours: int | None = None
    reason: str = ""

    def __post_init__(self):
        assert (self.ours is None) == (not self.reason), f"{self.what}: a difference needs a reason"
        assert self.ours != self.status, f"{self.what}: that is no difference"


def send(address, method, path, body=None, headers=(), chunked=False):
    """`bytes` and `str` are sent as they are, anything else as JSON; no header is added but the length."""
    if body is not None and not isinstance(body, bytes | str):
        body = json.dumps(body)
    body = body.encode() if isinstance(body, str) else body
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, iter([body]) if chunked else body, dict(headers))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


def hold(server, case):
    """Asks, and compares with what the case expects."""
    answer = send(server.http, case.method, case.path, case.body, case.headers, case.chunked)
    expected = case.status if case.ours is None else case.ours
    shown = f"{case.what}: {answer.status}, expected {expected}: {answer.body[:500]!r}"
    assert answer.status == expected, shown
    if answer.status >= 400:
        assert len(answer.error) > 5, shown
        assert re.search(case.says, answer.error), f"`{case.says}` is not in: {answer.error}"
    elif case.check:
        case.check(answer)


def each(cases):
    """A test for each case, called by what it is about."""
    names = [case.what for case in cases]
    assert len(set(names)) == len(names), "two cases have one name"
    return pytest.mark.parametrize("case", cases, ids=names)


def tensor(name, datatype, shape, data=None, **parameters):
    """An input of protocol V2; without `data` its bytes follow the JSON."""
    given = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        given["data"] = data
    return given | ({"parameters": parameters} if parameters else {})


def with_bytes(request, *tensors):
    """The body and the header of a request whose tensors follow its JSON."""
    head = json.dumps(request).encode()
    return {"body": head + b"".join(tensors), "headers": {HEADER_LENGTH: str(len(head))}}


def output(answer, name):
    """The output of this name."""
    (found,) = [one for one in answer.json["outputs"] if one["name"] == name]
    return found


def gives(**data):
    """A check that the outputs are exactly these, in this order, flat."""

    def check(answer):
        found = {one["name"]: one["data"] for one in answer.json["outputs"]}
        assert list(found.items()) == list(data.items()), answer.json

    return check


def is_json(**expected):
    """A check that the body is JSON with these members, and says that it is."""

    def check(answer):
        assert answer.headers["content-type"] == "application/json"
        found = {name: answer.json.get(name) for name in expected}
        assert found == expected, answer.json

    return check
