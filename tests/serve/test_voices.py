"""The voices tab: one is drawn, and two are mixed."""

import pytest

pytest.importorskip("gradio", reason="the extra web is not installed")

from vcvae import Converter
from vcvae.models.conversion.voice import Voice
from vcvae.serve.app import Page
from vcvae.serve.limits import Limits
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
