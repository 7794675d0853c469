"""The functions behind the page's buttons: voices are drawn and mixed, and a folder is converted."""

import asyncio
import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

pytest.importorskip("gradio", reason="the extra web is not installed")

from vcvae import Converter
from vcvae.models.conversion.voice import Voice
from vcvae.serve.limits import Limits
from vcvae.serve.page import RECORDINGS, Page
from vcvae.serve.session import Sessions


def test_voices_are_drawn_and_mixed_and_can_be_downloaded(model_with_prior):
    import gradio

    converter = Converter.from_pretrained(model_with_prior, vocoder="griffin-lim", device="cpu")
    sessions = Sessions()
    page, session = Page(converter, sessions, Limits(1.0)), sessions.open()
    for name, seed in (("one", 1), ("two", 2)):
        *lists, path = page.draw_voice(session.token, name, seed)
        assert Voice.load(path).card.name == name
    assert len(lists) == 6
    assert lists[-1]["choices"] == ["one", "two"]
    *_, path = page.mix_voices(session.token, "between", "one", "two", 0.25)
    mixed = Voice.load(path)
    means = [float(session.voices[name].f0_statistics.mean) for name in ("one", "two")]
    assert float(mixed.f0_statistics.mean) == pytest.approx(0.75 * means[0] + 0.25 * means[1])
    with pytest.raises(gradio.Error, match="choose two voices"):
        page.mix_voices(session.token, "other", "one", "absent", 0.5)
    with pytest.raises(gradio.Error, match="give the voice a name"):
        page.draw_voice(session.token, " ", 3)
    sessions.close_all()


def test_voice_of_a_recording_has_the_name_that_the_page_asks_for(tiny_model, voices):
    converter = Converter.from_pretrained(tiny_model, vocoder="griffin-lim", device="cpu")
    sessions = Sessions()
    page, session = Page(converter, sessions, Limits(1.0)), sessions.open()
    recordings = [str(voices / "spk.wav")]
    *_, path = page.make_voice(session.token, recordings, " Ann ", True, 0, lambda *_: None)
    assert Voice.load(path).card.name == "Ann"
    assert list(session.voices) == ["Ann"]
    sessions.close_all()


def test_page_learns_a_voice_with_the_source_that_is_converted_as_the_command_does(tiny_model, voices, monkeypatch):
    converter = Converter.from_pretrained(tiny_model, vocoder="griffin-lim", device="cpu")
    learned_with = []

    def learn(targets, *, sources, steps, progress):
        learned_with.append((targets, sources, steps))
        return converter.voice(targets)

    monkeypatch.setattr(converter, "learn", learn)
    sessions = Sessions()
    page, session = Page(converter, sessions, Limits(1.0)), sessions.open()
    source, target = voices / "src.wav", voices / "spk.wav"
    page.convert(session.token, str(source), str(target), RECORDINGS, True, 0.0, 20, False, lambda *_: None)
    page.make_voice(session.token, [str(target)], "Ann", True, 200, lambda *_: None)
    assert learned_with == [([target], [source], 20), ([target], (), 200)]
    sessions.close_all()


def test_page_refines_a_voice_to_the_source_where_that_is_ticked(tiny_model, voices, monkeypatch):
    converter = Converter.from_pretrained(tiny_model, vocoder="griffin-lim", device="cpu")
    refined, shown = [], []

    def refine(voice, source, *, progress):
        refined.append((voice, source))
        progress(1, 10, "content loss 0.10")
        return voice

    monkeypatch.setattr(converter, "refine", refine)
    sessions = Sessions()
    page, session = Page(converter, sessions, Limits(1.0)), sessions.open()
    voice = session.voices["spk"] = converter.voice([voices / "spk.wav"])
    for tick in (False, True):
        source = str(voices / "src.wav")
        page.convert(session.token, source, None, "spk", True, 0.0, 0, tick, lambda *shows: shown.append(shows))
    assert refined == [(voice, voices / "src.wav")]
    assert ((1, 10), "refining the voice: content loss 0.10") in shown
    sessions.close_all()


def test_page_converts_a_folder_as_the_command_does(tiny_model, voices):
    converter = Converter.from_pretrained(tiny_model, vocoder="griffin-lim", device="cpu")
    sessions = Sessions()
    page, session = Page(converter, sessions, Limits(1.0)), sessions.open()
    voice = session.voices["spk"] = converter.voice([voices / "spk.wav"])
    (voices / "text.wav").write_text("no audio")
    sources = [str(voices / "src.wav"), str(voices / "text.wav")]
    archive, rows = page.convert_folder(session.token, sources, None, "spk", True, 5.0, lambda *_: None)
    assert rows[0] == ("src.wav", "converted")
    assert rows[1][0] == "text.wav"
    assert "text.wav" in rows[1][1]
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == ["01 src.wav"]
        file.extractall(voices / "out")
    converter.convert_file(voices / "src.wav", voice, voices / "expected.wav", pitch_shift=5.0)
    np.testing.assert_array_equal(sf.read(voices / "out" / "01 src.wav")[0], sf.read(voices / "expected.wav")[0])
    sessions.close_all()


@pytest.fixture(scope="module")
def call(tiny_model, tmp_path_factory):
    """Calls a function of the page as a browser does, with any inputs → what the framework says when it is done."""
    from fastapi.testclient import TestClient

    from vcvae.serve.app import make_app

    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
    app = make_app(Converter.from_pretrained(tiny_model, vocoder="griffin-lim", device="cpu"))
    with TestClient(app) as client:
        config = client.get("/config").json()
        numbers = {function["api_name"]: function["id"] for function in config["dependencies"]}

        def run(name, inputs, session="abc"):
            body = {"data": inputs, "fn_index": numbers[name], "session_hash": session}
            assert client.post("/gradio_api/queue/join", json=body).status_code == 200
            for line in client.get("/gradio_api/queue/data", params={"session_hash": session}).iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") == "process_completed":
                    return message
            return None

        run.sessions = app.state.sessions
        run.uploads = Path(os.environ["GRADIO_TEMP_DIR"])
        yield run
    patch.undo()


def test_page_reads_no_file_that_was_not_uploaded(call, voices, capfd):
    call("open", [])
    (call.uploads / "spk.wav").write_bytes((voices / "spk.wav").read_bytes())
    file = {"path": str(call.uploads / "spk.wav"), "meta": {"_type": "gradio.FileData"}}
    assert call("make_voice", [None, [file], "ann", True, False])["success"]
    outside = os.path.relpath(voices, call.uploads)
    for path in (str(voices / "spk.wav"), f"{call.uploads}/{outside}/spk.wav", "", "http://127.0.0.1:1/a.wav", "\0"):
        answer = call("make_voice", [None, [file | {"path": path}], "bob", True, False])
        assert not answer["success"]
        assert answer["output"]["error"].startswith("a field is wrong, or its file is gone")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("value", [None, True, -1, 1e308, "x", "\0", [], [1], {}, {"path": None}, [[[{}]]]])
def test_page_answers_any_inputs_in_one_sentence(call, value, capfd):
    call("open", [])
    for name, count in (("convert", 7), ("convert_folder", 6), ("make_voice", 5), ("draw_voice", 3), ("mix_voices", 5)):
        answer = call(name, [None] + [value] * (count - 1))
        assert not answer["success"]
        assert answer["output"]["error"]
        assert not call(name, [value] * 2)["success"]
    assert "Traceback" not in capfd.readouterr().err


def test_page_opened_twice_in_a_tab_has_one_session(call):
    before = call.sessions.count
    for _ in range(3):
        assert call("open", [], session="a new tab")["success"]
    assert call.sessions.count == before + 1


def test_page_limits_voices_and_their_names(tiny_model, voices, monkeypatch):
    import gradio

    monkeypatch.setattr("vcvae.serve.page.MAX_VOICES", 1)
    converter = Converter.from_pretrained(tiny_model, vocoder="griffin-lim", device="cpu")
    sessions = Sessions()
    page, session = Page(converter, sessions, Limits(1.0)), sessions.open()
    recordings = [str(voices / "spk.wav")]
    for name in ("x" * 61, "a\nb", "a\0"):
        with pytest.raises(gradio.Error, match="name: give one line"):
            page.make_voice(session.token, recordings, name, True, 0, lambda *_: None)
    for _ in range(2):  # one of the same name replaces the first
        page.make_voice(session.token, recordings, "Ann", True, 0, lambda *_: None)
    with pytest.raises(gradio.Error, match="there are 1 already"):
        page.make_voice(session.token, recordings, "Bob", True, 0, lambda *_: None)
    sessions.close_all()


def test_unfinished_uploads_are_deleted_when_they_are_old(tmp_path, monkeypatch):
    from vcvae.serve.inputs import delete_unfinished_uploads

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    for name in ("tmpold", "tmpnew", "kept"):
        (tmp_path / name).write_bytes(b"1")
    for name in ("tmpold", "kept"):
        os.utime(tmp_path / name, (time.time() - 99,) * 2)

    async def look_once():
        task = asyncio.create_task(delete_unfinished_uploads(every=0.01, age=50))
        await asyncio.sleep(0.1)
        task.cancel()

    asyncio.run(look_once())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "tmpnew"]
