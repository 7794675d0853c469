"""The functions behind the page's buttons: voices are drawn and mixed, and a folder is converted."""

import zipfile

import numpy as np
import pytest
import soundfile as sf

pytest.importorskip("gradio", reason="the extra web is not installed")

from vcvae import Converter
from vcvae.models.conversion.voice import Voice
from vcvae.serve.limits import Limits
from vcvae.serve.page import Page
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
    *_, path = page.make_voice(session.token, recordings, " Ann ", True, False, lambda *_: None)
    assert Voice.load(path).card.name == "Ann"
    assert list(session.voices) == ["Ann"]
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
