"""The page's server beside the page: conversion by one HTTP request, and live by a websocket of raw PCM.

    curl -F source=@src.wav -F target=@spk.wav -F consent=yes -o converted.wav http://127.0.0.1:7860/api/convert

The websocket `/api/live?consent=yes` takes the target first, as one binary message that holds a recording or a .voice
file; then messages of float32 samples (little-endian, mono, at 22,050 Hz or at `rate`) of any size, and answers each
with converted samples. The page itself gives a voice of its session instead: `?session=TOKEN&voice=NAME`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import soxr
from fastapi import Depends, FastAPI, HTTPException, Request, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from starlette.types import Receive, Scope, Send

from vcvae import audio
from vcvae.convert.converter import Converter
from vcvae.defaults import MAX_PITCH_SHIFT
from vcvae.errors import VcvaeError, temporary_folder
from vcvae.models.conversion.voice import Voice, is_voice
from vcvae.serve.form import MAX_FIELDS, MAX_TARGETS, MAX_TEXT, ConvertForm
from vcvae.serve.limits import Limits
from vcvae.serve.session import Sessions

LIVE_RATES = (8000, 192_000)  # Hz
MAX_MESSAGE = 2**20  # bytes of a websocket's message of samples
MAX_TARGET = 2**23  # bytes of the message that holds a target
MAX_SILENCE = 60.0  # seconds without a message, after which a live conversion ends
MAX_REASON = 123  # bytes of why a websocket closes (RFC 6455, 5.5)
LIVE_PER_CORE = 2  # live conversions at once; each takes about a third of a core
PLAYABLE = ("source.wav", "target.wav", "converted.wav")  # the files of a session that the page plays


def add_api(
    app: FastAPI,
    converter: Converter,
    sessions: Sessions,
    *,
    limits: Limits,
    workers: ThreadPoolExecutor,
    auth: tuple[str, str] | None,
) -> None:
    """Add the routes under /api to the page's server.

    Args:
        app: the server.
        converter: used by one thread at a time for each of the workers.
        sessions: whose files the page plays, and whose voices the websocket takes.
        limits: of what is uploaded.
        workers: run the conversions; more requests wait for their turn.
        auth: name and password that a request must give, by HTTP basic authentication.
    """
    require_password = _password_check(auth)

    @app.post("/api/convert", dependencies=[Depends(require_password)])
    async def convert(request: Request) -> Response:
        async with request.form(max_files=1 + MAX_TARGETS, max_fields=MAX_FIELDS, max_part_size=MAX_TEXT) as form:
            fields = ConvertForm.read(form)
            with ExitStack() as kept:
                folder = kept.enter_context(temporary_folder())
                output = folder / "converted.wav"
                loop = asyncio.get_running_loop()

                def work() -> None:
                    if asyncio.run_coroutine_threadsafe(request.is_disconnected(), loop).result():
                        raise VcvaeError("the client has gone while its request waited.")
                    source = _keep(fields.source, folder, "source")
                    targets = [_keep(x, folder, f"target{i}") for i, x in enumerate(fields.targets, 1)]
                    for path in [source, *targets]:
                        limits.check(path)
                    voice = read_voice(converter, targets)
                    converter.convert_file(source, voice, output, pitch_shift=fields.pitch_shift)

                try:
                    await loop.run_in_executor(workers, work)
                except VcvaeError as error:
                    raise HTTPException(422, without_folder(error)) from None
                return _TemporaryFile(output, kept.pop_all())

    @app.get("/api/session/{token}/{name}")
    def file(token: str, name: str) -> FileResponse:
        session = sessions.find(token)
        if session is None or name not in PLAYABLE or not (session.folder / name).is_file():
            raise HTTPException(404)
        return FileResponse(session.folder / name, media_type="audio/wav", headers={"Cache-Control": "no-store"})

    places = threading.BoundedSemaphore(LIVE_PER_CORE * (os.cpu_count() or 1))

    @app.websocket("/api/live")
    async def live(
        socket: WebSocket,
        session: str = "",
        voice: str = "",
        consent: str = "",
        rate: int = 22050,
        pitch_shift: float = 0.0,
    ) -> None:
        await socket.accept()
        owner = sessions.find(session)
        chosen = owner.voices.get(voice) if owner else None
        if not (LIVE_RATES[0] <= rate <= LIVE_RATES[1] and abs(pitch_shift) <= MAX_PITCH_SHIFT) or (
            session and chosen is None
        ):
            await socket.close(1008, "no such voice, rate or pitch_shift")
        elif chosen is None and not _is_allowed(socket.headers.get("authorization", ""), auth):
            await socket.close(1008, "wrong name or password")
        elif chosen is None and consent != "yes":
            await socket.close(1008, "consent: say yes if you have the right to use the target's voice")
        elif not places.acquire(blocking=False):
            await socket.close(1013, "too many live conversions at once; try again later")
        else:
            try:
                await run_live(socket, chosen, rate, pitch_shift)
            except WebSocketDisconnect:
                pass
            except VcvaeError as error:
                await socket.close(1003, _close_reason(error))
            finally:
                places.release()

    async def run_live(socket: WebSocket, voice: Voice | None, rate: int, pitch_shift: float) -> None:
        loop = asyncio.get_running_loop()
        if voice is None:
            target = await _receive(socket)
            voice = await loop.run_in_executor(workers, _voice_of_bytes, converter, target, limits)
        push = await loop.run_in_executor(workers, _live_function, converter, voice, rate, pitch_shift)
        while True:
            message = await _receive(socket)
            if len(message) % 4 or len(message) > MAX_MESSAGE:
                raise VcvaeError("samples: send float32, at most 1 MB at a time.")
            samples = np.frombuffer(message, "<f4").astype(np.float32)
            converted = await loop.run_in_executor(workers, push, samples)
            await socket.send_bytes(converted.astype("<f4").tobytes())


def read_voice(converter: Converter, paths: list[Path]) -> Voice:
    """The voice of one .voice file, or of recordings in one pass.

    Raises:
        VcvaeError: a file that cannot be used.
    """
    if any(map(is_voice, paths)):
        if len(paths) > 1:
            raise VcvaeError("target: a .voice is not combined with others; give one, or recordings.")
        return converter.fitted(Voice.load(paths[0]))
    return converter.learn(paths, steps=0)


def _voice_of_bytes(converter: Converter, content: bytes, limits: Limits) -> Voice:
    """The voice of a recording or of a .voice file, which starts with the length of its header as safetensors do."""
    is_safetensors = content[8:9] == b"{"
    with temporary_folder() as folder:
        path = folder / ("target.voice" if is_safetensors else "target.audio")
        path.write_bytes(content)
        limits.check(path)
        return read_voice(converter, [path])


def without_folder(error: VcvaeError) -> str:
    """The sentence without the folders of the server."""
    words = []
    for word in str(error).split(" "):
        words.append(Path(word).name if word.startswith("/") and len(word) > 1 else word)
    return " ".join(words)


async def _receive(socket: WebSocket) -> bytes:
    """The next message.

    Raises:
        VcvaeError: it is text, or there is none for too long: the place is for another.
    """
    try:
        message = await asyncio.wait_for(socket.receive(), MAX_SILENCE)
    except asyncio.TimeoutError:
        raise VcvaeError(f"nothing arrived for {MAX_SILENCE:g} s; connect again.") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"], message.get("reason"))
    if message.get("bytes") is None:
        raise VcvaeError("a message was text; send the target and then samples, each as bytes.")
    return message["bytes"]


def _close_reason(error: VcvaeError) -> str:
    """A sentence, in as many bytes as a websocket closes with."""
    return without_folder(error).encode()[:MAX_REASON].decode(errors="ignore")


class _TemporaryFile(FileResponse):
    """A recording, whose folder is removed when it is sent or the client has gone."""

    def __init__(self, path: Path, folder: ExitStack) -> None:
        super().__init__(path, media_type="audio/wav")
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._folder:
            await super().__call__(scope, receive, send)


def _keep(upload: UploadFile, folder: Path, name: str) -> Path:
    """An upload in a folder, under another name: only the ending is the upload's."""
    ending = Path(upload.filename or "").suffix.lower()
    path = folder / f"{name}{ending if ending in (*audio.AUDIO_ENDINGS, '.voice') else '.audio'}"
    with open(path, "wb") as file:
        while block := upload.file.read(2**20):
            file.write(block)
    return path


def _live_function(converter: Converter, voice: Voice, rate: int, pitch_shift: float) -> Callable:
    stream = converter.stream(voice, pitch_shift=pitch_shift)
    if rate == stream.sample_rate:
        return stream.push
    to_model = soxr.ResampleStream(rate, stream.sample_rate, 1, quality="LQ")
    back = soxr.ResampleStream(stream.sample_rate, rate, 1, quality="LQ")
    return lambda samples: back.resample_chunk(stream.push(to_model.resample_chunk(samples)))


def _password_check(auth: tuple[str, str] | None) -> Callable:
    if auth is None:
        return lambda: None

    def check(given: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> None:
        if not _same((given.username, given.password), auth):
            raise HTTPException(401, "wrong name or password", {"WWW-Authenticate": "Basic"})

    return check


def _is_allowed(authorization: str, auth: tuple[str, str] | None) -> bool:
    """Whether a header `Authorization: Basic …` has the name and the password; always, where none are asked for."""
    if auth is None:
        return True
    scheme, _, credentials = authorization.partition(" ")
    try:
        name, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return scheme.lower() == "basic" and _same((name, password), auth)


def _same(given: tuple[str, str], auth: tuple[str, str]) -> bool:
    """In a time that does not tell how much of it is right."""
    right = [secrets.compare_digest(a.encode(), b.encode()) for a, b in zip(given, auth, strict=True)]
    return all(right)
