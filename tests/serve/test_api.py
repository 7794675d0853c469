import base64
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile as sf

from tests.synthetic import RATE, speak

pytest.importorskip("fastapi", reason="the extra web is not installed")

from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from vcvae.errors import VcvaeError
from vcvae.serve.api import add_api, without_folder
from vcvae.serve.limits import Limits
from vcvae.serve.session import Sessions


def is_audio(path):
    return path.read_bytes().startswith(b"RIFF")


class Copies:
    """A converter that gives its source, half as loud, and has no model."""

    def learn(self, recordings, *, steps):
        for path in recordings:
            if not is_audio(path):
                raise VcvaeError(f"{path}: not audio of a known format; convert it to WAV.")
        return "voice"

    def convert_file(self, source, voice, output, *, pitch_shift):
        if not is_audio(source):
            raise VcvaeError(f"{source}: not audio of a known format; convert it to WAV.")
        samples, rate = sf.read(source)
        sf.write(output, samples / 2, rate)


def client_of(converter, *, auth=None, max_minutes=1.0):
    app, sessions = FastAPI(), Sessions()
    workers = ThreadPoolExecutor(2)
    add_api(app, converter, sessions, limits=Limits(max_minutes), workers=workers, auth=auth)
    return TestClient(app), sessions


@pytest.fixture
def upload(voices):
    """The form's files, opened anew for each request."""

    def form(source="src.wav", source_name="src.wav"):
        return [
            ("source", (source_name, (voices / source).read_bytes())),
            ("target", ("spk.wav", (voices / "spk.wav").read_bytes())),
        ]

    return form


def test_convert_answers_with_a_recording(upload, voices, tmp_path):
    client, _ = client_of(Copies())
    answer = client.post("/api/convert", files=upload(), data={"consent": "yes"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    (tmp_path / "answer.wav").write_bytes(answer.content)
    np.testing.assert_allclose(sf.read(tmp_path / "answer.wav")[0], sf.read(voices / "src.wav")[0] / 2, atol=1e-4)


def test_convert_needs_consent(upload):
    client, _ = client_of(Copies())
    assert client.post("/api/convert", files=upload()).status_code == 403


def test_convert_answers_a_bad_file_in_one_sentence_without_the_servers_folders(upload, voices):
    client, _ = client_of(Copies())
    (voices / "bad").write_bytes(b"nothing")
    form = upload("bad", "../../<script>.exe")
    answer = client.post("/api/convert", files=form, data={"consent": "yes"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "source.audio: not audio of a known format; convert it to WAV."


def test_convert_refuses_recordings_that_are_too_long(upload, voices):
    client, _ = client_of(Copies(), max_minutes=0.01)
    answer = client.post("/api/convert", files=upload(), data={"consent": "yes"})
    assert answer.status_code == 422
    assert "at most 0.01" in answer.json()["detail"]


SOURCE, TARGET = ("source", ("a.wav", b"1")), ("target", ("b.wav", b"1"))


@pytest.mark.parametrize(
    ("files", "data", "code", "words"),
    [
        ([TARGET], {}, 422, "source: missing"),
        ([SOURCE], {}, 422, "target: missing"),
        ([SOURCE, SOURCE, TARGET], {}, 422, "source: 2 files"),
        ([SOURCE, ("target", (None, "b.wav"))], {}, 422, "target: missing, or no file"),
        ([SOURCE, TARGET], {"consent": "Yes"}, 403, "consent: say yes"),
        ([SOURCE, TARGET], {"consent": ["yes", "yes"]}, 422, "consent: given twice"),
        ([SOURCE, TARGET, ("pitch_shift", ("p", b"1"))], {}, 422, "pitch_shift: given twice or as a file"),
        *(([SOURCE, TARGET], {"pitch_shift": x}, 422, f"pitch_shift: {x}; give") for x in ("x", "nan", "-25", "1e999")),
        ([SOURCE, TARGET], {"pitchshift\x85": "1"}, 422, "pitchshift?: no such field; there are source, target"),
        ([SOURCE, TARGET], {"consent": "y" * 2000}, 400, "Part exceeded maximum size"),
        ([SOURCE, *[TARGET] * 101], {}, 400, "Too many files"),
    ],
)
def test_convert_names_a_field_that_is_wrong(files, data, code, words):
    client, _ = client_of(Copies())
    answer = client.post("/api/convert", files=files, data={"consent": "yes"} | data)
    assert answer.status_code == code
    assert answer.json()["detail"].startswith(words)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x", "application/json", ""])
def test_convert_answers_what_is_no_form_in_one_sentence(kind):
    client, _ = client_of(Copies())
    answer = client.post("/api/convert", content=b"\xff{", headers={"Content-Type": kind})
    assert 400 <= answer.status_code < 500
    assert isinstance(answer.json()["detail"], str)


def test_convert_leaves_no_files(upload, monkeypatch, tmp_path):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    client, _ = client_of(Copies())
    assert client.post("/api/convert", files=upload(), data={"consent": "yes"}).status_code == 200
    assert client.post("/api/convert", files=[SOURCE, TARGET], data={"consent": "yes"}).status_code == 422
    assert not list((tmp_path / "temporary").iterdir())


def test_convert_answers_fifty_clients_at_once(upload):
    client, _ = client_of(Copies())
    forms = [upload() for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda f: client.post("/api/convert", files=f, data={"consent": "yes"}), forms))
    assert [answer.status_code for answer in answers] == [200] * 50
    assert len({answer.content for answer in answers}) == 1


def test_password_is_required_of_every_request(upload):
    client, _ = client_of(Copies(), auth=("ann", "secret"))
    assert client.post("/api/convert", files=upload(), data={"consent": "yes"}).status_code == 401
    wrong = {"Authorization": "Basic " + base64.b64encode(b"ann:no").decode()}
    assert client.post("/api/convert", files=upload(), data={"consent": "yes"}, headers=wrong).status_code == 401
    right = {"Authorization": "Basic " + base64.b64encode(b"ann:secret").decode()}
    assert client.post("/api/convert", files=upload(), data={"consent": "yes"}, headers=right).status_code == 200


def test_session_serves_its_files_while_it_is_open(tmp_path):
    client, sessions = client_of(Copies())
    session = sessions.open()
    (session.folder / "source.wav").write_bytes(b"RIFF")
    (session.folder / "secret.txt").write_text("secret")
    here = f"/api/session/{session.token}"
    assert client.get(f"{here}/source.wav").content == b"RIFF"
    for path in (f"{here}/secret.txt", f"{here}/..%2F..%2Fetc%2Fpasswd", "/api/session/wrong/source.wav"):
        assert client.get(path).status_code == 404
    sessions.close(session.token)
    assert client.get(f"{here}/source.wav").status_code == 404
    assert not session.folder.exists()


def test_sessions_close_the_one_that_was_used_least_recently(monkeypatch):
    monkeypatch.setattr("vcvae.serve.session.MAX_SESSIONS", 2)
    sessions = Sessions()
    first, second = sessions.open(), sessions.open()
    assert sessions.find(first.token) is first
    third = sessions.open()
    assert [sessions.find(session.token) for session in (first, second, third)] == [first, None, third]
    assert [session.folder.exists() for session in (first, second, third)] == [True, False, True]
    sessions.close_all()


def test_session_deletes_uploads_when_it_closes(tmp_path):
    sessions = Sessions()
    session = sessions.open()
    copy = tmp_path / "copy.wav"
    copy.write_bytes(b"RIFF")
    session.uploads.add(copy)
    sessions.close_all()
    assert not copy.exists()


@pytest.mark.slow
def test_live_converts_block_by_block(released):
    client, sessions = client_of(released)
    session = sessions.open()
    session.voices["ann"] = released.voice([speak("oeaui", f0=210, tract=1.15, seconds=1.0)])
    source = speak("aisoe", f0=110, seconds=1.0)
    expected = released.stream(session.voices["ann"]).push(source)
    with client.websocket_connect(f"/api/live?session={session.token}&voice=ann") as socket:
        converted = []
        for start in range(0, len(source), 4000):
            socket.send_bytes(source[start : start + 4000].astype("<f4").tobytes())
            converted.append(np.frombuffer(socket.receive_bytes(), "<f4"))
    np.testing.assert_allclose(np.concatenate(converted), expected, atol=1e-6)
    assert released.mel_config.sample_rate == RATE


def converted_live(client, query, target, source, **options):
    with client.websocket_connect(f"/api/live?{query}", **options) as socket:
        socket.send_bytes(target)
        socket.send_bytes(source.astype("<f4").tobytes())
        return np.frombuffer(socket.receive_bytes(), "<f4")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["recording", "voice"])
def test_live_takes_the_target_as_its_first_message(released, tmp_path, form):
    client, _ = client_of(released)
    target, source = speak("oeaui", f0=210, tract=1.15, seconds=1.0), speak("aisoe", f0=110, seconds=1.0)
    sf.write(tmp_path / "spk.wav", target, RATE, subtype="FLOAT")
    voice = released.voice([tmp_path / "spk.wav"])
    voice.save(tmp_path / "spk.voice")
    content = (tmp_path / ("spk.wav" if form == "recording" else "spk.voice")).read_bytes()
    converted = converted_live(client, "consent=yes", content, source)
    np.testing.assert_allclose(converted, released.stream(voice).push(source), atol=1e-5)


def close_of(client, query, **options):
    with client.websocket_connect(f"/api/live?{query}", **options) as socket:
        socket.send_bytes(b"no recording")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_bytes()
    return closed.value.code, closed.value.reason


def test_live_needs_consent_a_password_and_a_recording(released):
    client, _ = client_of(released, auth=("ann", "secret"))
    right = {"Authorization": "Basic " + base64.b64encode(b"ann:secret").decode()}
    wrong = {"Authorization": "Basic " + base64.b64encode(b"ann:no").decode()}
    for header in ({}, wrong, {"Authorization": "Basic ?"}):
        assert close_of(client, "consent=yes", headers=header) == (1008, "wrong name or password")
    code, reason = close_of(client, "", headers=right)
    assert (code, reason.split(":")[0]) == (1008, "consent")
    code, reason = close_of(client, "consent=yes", headers=right)
    assert (code, reason.split(":")[0]) == (1003, "target.audio")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (["a"], "a message was text"),
        ([np.zeros(9, "<f4").tobytes(), "a"], "a message was text"),
        ([b"123"], "samples: send float32"),
        ([bytes(2**20 + 4)], "samples: send float32"),
        ([np.full(9, np.nan, "<f4").tobytes()], "a stream takes finite"),
        ([], "nothing arrived for 0.2 s"),
    ],
)
def test_live_ends_in_one_sentence(released, monkeypatch, messages, words):
    client, sessions = client_of(released)
    session = sessions.open()
    session.voices["ann"] = released.voice([speak("oeaui", f0=210, seconds=1.0)])
    monkeypatch.setattr("vcvae.serve.api.MAX_SILENCE", 0.2 if not messages else 60.0)
    with client.websocket_connect(f"/api/live?session={session.token}&voice=ann") as socket:
        for message in messages:
            (socket.send_text if isinstance(message, str) else socket.send_bytes)(message)
        answer = socket.receive()
        while answer["type"] == "websocket.send":
            answer = socket.receive()
    assert answer["code"] == 1003
    assert answer["reason"].startswith(words)
    sessions.close_all()


def test_live_has_places_for_some(monkeypatch, released):
    monkeypatch.setattr("vcvae.serve.api.LIVE_PER_CORE", 1)
    monkeypatch.setattr("vcvae.serve.api.os.cpu_count", lambda: 1)
    client, _ = client_of(released)
    with client.websocket_connect("/api/live?consent=yes"):
        assert close_of(client, "consent=yes")[0] == 1013
    for _ in range(100):  # the place is free again soon after the first has gone
        if close_of(client, "consent=yes")[0] != 1013:
            break
    else:
        pytest.fail("the place stays taken")


@pytest.mark.parametrize("query", ["voice=bob", "voice=ann&rate=1", "voice=ann&pitch_shift=99"])
def test_live_refuses_what_is_not_there(query):
    client, sessions = client_of(Copies())
    session = sessions.open()
    session.voices["ann"] = "voice"
    with (
        client.websocket_connect(f"/api/live?session={session.token}&{query}") as socket,
        pytest.raises(WebSocketDisconnect),
    ):
        socket.receive_bytes()


def test_without_folder_shortens_paths_in_sentences():
    assert without_folder(VcvaeError("/tmp/x/y.wav: too short; give 1 / 2.")) == "y.wav: too short; give 1 / 2."


def test_limits_count_a_recording_whose_header_has_no_length(tmp_path):
    path = tmp_path / "piped.flac"
    sf.write(path, np.zeros(3 * RATE), RATE)
    header = bytearray(path.read_bytes())
    header[21] &= 0xF0
    header[22:26] = bytes(4)  # the number of samples, 36 bits: unknown
    path.write_bytes(header)
    Limits(0.06).check(path)
    with pytest.raises(VcvaeError, match=r"minutes long; give at most 0\.04"):
        Limits(0.04).check(path)
