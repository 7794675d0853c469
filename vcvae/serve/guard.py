"""What reaches the server: requests of some size and pace, and of the page's framework only what the page uses."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vcvae.errors import reason
from vcvae.serve.limits import Limits

MAX_BODY = 2**20  # bytes of a request that uploads nothing
LONGEST_WAIT = 30.0  # seconds for which nothing of a body arrives
SLOWEST = 1000.0  # bytes per second of a body after that, on average
FRAMEWORK = "/gradio_api/"
USED = re.compile(  # by the page, of what its framework offers
    r"(GET|HEAD) (file=|heartbeat/|queue/data$|upload_progress$|login_check/?$|user/?$|token/?$|app_id/?$)"
    r"|POST (queue/join|upload|cancel|reset)/?$"
)

_log = logging.getLogger("vcvae")


class Guard:
    """An ASGI middleware that answers what it refuses in JSON, one sentence in `detail`."""

    def __init__(self, app: ASGIApp, *, limits: Limits, max_uploads: int) -> None:
        """
        Args:
            app: answers the other requests.
            limits: of one recording.
            max_uploads: recordings that the page uploads in one request.
        """
        self.app = app
        self.max_bytes = {"/api/convert": 2 * limits.max_bytes, f"{FRAMEWORK}upload": max_uploads * limits.max_bytes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        exchange = _Exchange(scope, receive, send, self.max_bytes.get(path.rstrip("/"), MAX_BODY))
        offered = path.removeprefix(FRAMEWORK)
        is_framework = offered != path
        if is_framework and not USED.match(f"{scope['method']} {offered}"):
            await exchange.refuse(404, "not a part of the page.")
            return
        try:
            exchange.check_length()
            await self.app(scope, exchange.receive, exchange.hold if is_framework else exchange.send)
        except HTTPException as error:
            await exchange.refuse(error.status_code, error.detail)
        except ClientDisconnect:
            return
        except OSError:
            raise
        except Exception as error:
            if not is_framework:
                raise
            # The framework raises errors of its own where a request is not as its page sends it.
            _log.warning(f"{scope['method']} {path}: {type(error).__name__}: {reason(error)}")
            await exchange.refuse(400, "not a request as the page sends it; load the page again.")


def keep_record(record: logging.LogRecord) -> bool:
    """A filter of the server's log: no traceback where a client sent text that is not UTF-8, or the server ends."""
    exception = record.exc_info[1] if record.exc_info else None
    if isinstance(exception, UnicodeDecodeError):
        record.exc_info = None
    return not isinstance(exception, asyncio.CancelledError)


class _Exchange:
    """A request whose body is counted while it arrives, and the answer to it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
        self._scope, self._receive, self._send, self._max_bytes = scope, receive, send, max_bytes
        self._begin, self._received = time.monotonic(), 0
        self._is_whole = self._is_gone = self._is_answered = False

    def check_length(self) -> None:
        """Raise an HTTPException if the header says that the body is too large."""
        lengths = [value for name, value in self._scope["headers"] if name == b"content-length"]
        if lengths and int(lengths[0]) > self._max_bytes:
            self._raise_too_large()

    async def receive(self) -> Message:
        """The next message.

        Raises:
            HTTPException: the body is larger than it may be, or arrives too slowly.
        """
        if self._is_whole:
            return await self._receive()
        left = self._begin + LONGEST_WAIT + self._received / SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), min(max(left, 0), LONGEST_WAIT))
        except asyncio.TimeoutError:
            raise HTTPException(408, "the request arrives too slowly; send it again.") from None
        if message["type"] == "http.disconnect":
            self._is_gone = True
            return message
        self._received += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._received > self._max_bytes:
            self._raise_too_large()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, unless the client has gone before its request was whole."""
        self._is_answered = True
        if not self._is_gone:
            await self._send(message)

    async def hold(self, message: Message) -> None:
        """As `send`, but an answer of the status 500, after which an exception follows, is left out."""
        if message.get("status") != 500 and (self._is_answered or message["type"] != "http.response.body"):
            await self.send(message)

    async def refuse(self, status: int, sentence: Any) -> None:
        """Answer with a sentence; where the answer has begun, end it."""
        if self._is_answered:
            await self.send({"type": "http.response.body", "body": b""})
        else:
            await JSONResponse({"detail": sentence}, status)(self._scope, self._receive, self.send)

    def _raise_too_large(self) -> None:
        raise HTTPException(413, f"the request is larger than {self._max_bytes / 1e6:.0f} MB; send less at once.")
