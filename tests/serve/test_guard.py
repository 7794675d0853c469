"""Requests that are refused before they are read: too large, too slow, not of the page; and the framework's errors."""

import logging

import anyio
import pytest

pytest.importorskip("fastapi", reason="the extra web is not installed")

from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from vcvae.serve import guard
from vcvae.serve.guard import MAX_BODY, Guard, keep_record
from vcvae.serve.limits import Limits

LIMITS = Limits(1.0)


@pytest.fixture
def client():
    app = FastAPI()
    app.add_middleware(Guard, limits=LIMITS, max_uploads=2)

    @app.post("/{path:path}")
    async def count(request: Request, path: str):
        body = await request.body()
        if body == b"wrong":
            raise KeyError("no function 99")
        return len(body)

    return TestClient(app)


def in_pieces(count, size=2**20):
    for _ in range(count):
        yield b"\0" * size


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/api/convert", 2 * LIMITS.max_bytes),
        ("/gradio_api/upload", 2 * LIMITS.max_bytes),
        ("/gradio_api/queue/join", MAX_BODY),
        ("/login", MAX_BODY),
    ],
)
def test_guard_refuses_what_is_larger_than_its_path_takes(client, path, most):
    assert client.post(path, content=b"\0" * most).json() == most
    answers = [
        client.post(path, content=b"\0" * (most + 1)),
        client.post(path, content=in_pieces(most // 2**20 + 2)),  # without a length
        client.post(path, content=b"", headers={"Content-Length": str(10**15)}),
    ]
    for answer in answers:
        assert answer.status_code == 413
        assert "MB; send less at once" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "is_used"),
    [
        ("POST", "queue/join", True),
        ("POST", "upload?upload_id=a", True),
        ("POST", "run/convert", False),
        ("POST", "process_recording", False),
        ("POST", "vibe-edit", False),
        ("GET", "proxy=http://127.0.0.1", False),
        ("GET", "queue/join", False),
        ("GET", "stream/a/b/c/playlist.m3u8", False),
    ],
)
def test_guard_passes_on_what_the_page_uses_of_its_framework(client, method, path, is_used):
    answer = client.request(method, f"/gradio_api/{path}")
    assert answer.status_code == (200 if is_used else 404)
    if not is_used:
        assert answer.json() == {"detail": "not a part of the page."}


def test_guard_answers_an_error_of_the_framework_in_one_sentence(client, caplog):
    with caplog.at_level(logging.WARNING, "vcvae"):
        answer = client.post("/gradio_api/queue/join", content=b"wrong")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("not a request as the page sends it")
    assert [record.getMessage() for record in caplog.records] == [
        "POST /gradio_api/queue/join: KeyError: 'no function 99'"
    ]
    with pytest.raises(KeyError):  # one of our own is not hidden
        client.post("/api/convert", content=b"wrong")


def exchange(app, messages, wait=0.0):
    """What an application behind the guard sends, to a client of whom these messages come, then none for `wait` s."""
    sent, messages = [], list(messages)

    async def receive():
        if not messages:
            await anyio.sleep(wait)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/convert", "headers": [], "query_string": b""}
    anyio.run(Guard(app, limits=LIMITS, max_uploads=1), scope, receive, send)
    return sent


async def read_and_answer(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("body", [b"1", b"1" * 100_000])
def test_guard_refuses_a_body_of_which_nothing_arrives(monkeypatch, body):
    monkeypatch.setattr(guard, "LONGEST_WAIT", 0.05)
    sent = exchange(read_and_answer, [{"type": "http.request", "body": body, "more_body": True}], wait=5.0)
    assert sent[0]["status"] == 408
    assert b"too slowly" in sent[1]["body"]


def test_guard_sends_nothing_to_a_client_that_has_gone():
    assert exchange(read_and_answer, [{"type": "http.request", "body": b"1", "more_body": True}]) == []
    whole = exchange(read_and_answer, [{"type": "http.request", "body": b"1", "more_body": False}])
    assert whole[0]["status"] == 200


def test_guard_ends_an_answer_that_breaks_off():
    async def break_off(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("a fault of the framework")

    async def framework(scope, receive, send):
        await Guard(break_off, limits=LIMITS, max_uploads=1)(scope | {"path": "/gradio_api/queue/join"}, receive, send)

    sent = exchange(framework, [{"type": "http.request", "body": b""}])
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert not sent[1].get("more_body")


def test_keep_record_leaves_tracebacks_of_other_errors():
    def record(error):
        return logging.LogRecord("a", logging.ERROR, "", 0, "text", (), (type(error), error, None))

    wrong_text, fault = record(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "")), record(ValueError())
    assert keep_record(wrong_text)
    assert wrong_text.exc_info is None
    assert keep_record(fault)
    assert fault.exc_info is not None
