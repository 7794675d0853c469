"""vcvae voice: learns, lists and removes; and vcvae info of what it wrote."""

import re
from pathlib import Path

import pytest
import soundfile as sf

from tests.synthetic import RATE, speak
from vcvae.models.conversion.voice import Voice


@pytest.fixture
def learn(vcvae, voices, tiny_model):
    """`vcvae voice` of spk.wav with the smallest model, in two steps, converting src.wav meanwhile."""

    def run(*arguments, recordings=("spk.wav",), steps=2):
        files = [voices / name for name in recordings]
        options = ("--model", tiny_model, "--steps", steps, "--device", "cpu")
        if steps:
            options += ("--replay", voices / "src.wav")
        return vcvae("voice", *files, *options, *arguments)

    return run


@pytest.fixture
def without_losses(monkeypatch):
    """Where only files matter, the released networks would take time."""
    monkeypatch.setattr("vcvae.convert.converter.load_losses", lambda mel, vocoder: None)


@pytest.mark.slow
def test_voice_learns_once_and_converts_any_source(learn, vcvae, voices, tiny_model, without_losses, monkeypatch):
    monkeypatch.setattr("vcvae.convert.similarity.speaker_similarity", lambda *_: [0.4, 0.6])
    ann = voices / "ann.voice"
    text = ("--name", "Ann Smith", "--consent", "agreed, by letter", "--note", "CC BY 4.0")
    code, out, err = learn("-o", ann, *text)
    assert (code, err) == (0, "")
    assert re.search(r"ann\.voice: 0\.\d MB, made from 2\.\d s of speech in \d+ s\n", out)
    assert (
        "similarity of conversions to the target: 0.40 in one pass, 0.60 learned (network of the speaker loss)" in out
    )
    assert "consent" not in out
    voice = Voice.load(ann)
    assert (voice.card.name, voice.card.consent, voice.card.note) == ("Ann Smith", "agreed, by letter", "CC BY 4.0")
    assert (voice.card.steps, voice.card.model, bool(voice.learned)) == (2, str(tiny_model), True)
    (voices / "spk.wav").unlink()
    command = ("convert", voices / "src.wav", "--target", ann, "--model", tiny_model, "--vocoder", "griffin-lim")
    assert vcvae(*command) == (0, f"{voices / 'src.to-ann.wav'}\n", "")
    assert sf.info(voices / "src.to-ann.wav").frames == RATE

    code, out, err = vcvae("info", ann)
    assert (code, err) == (0, "")
    for line in ("voice: Ann Smith", "consent: agreed, by letter", "note: CC BY 4.0", "learned: "):
        assert line in out
    assert re.search(rf"model: {re.escape(str(tiny_model))} \([0-9a-f]{{16}}\)\n", out)
    assert re.search(r"made: from 2\.\d s of speech, in 2 steps of fine-tuning\n", out)
    assert re.search(r"reference: \d+ frames.*, \d+ valid bands\n", out)


def test_voice_takes_several_recordings_and_folders(learn, voices, without_losses):
    (voices / "more").mkdir()
    for number in range(2):
        sf.write(voices / "more" / f"{number}.flac", speak("aiu", seconds=0.7, seed=number), RATE)
    code, out, _ = learn("-o", voices / "ann.voice", recordings=("spk.wav", "more"), steps=0)
    assert code == 0
    assert "made from 3." in out
    assert " learned" not in out
    assert "consent: not stated" in out
    assert Voice.load(voices / "ann.voice").learned is None


def test_voice_refuses_what_cannot_be_used(learn, vcvae, voices):
    def refused(code, out, err):
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    (voices / "ann.voice").write_text("mine")
    assert "--force" in refused(*learn("-o", voices / "ann.voice"))
    assert (voices / "ann.voice").read_text() == "mine"
    assert "absent.wav" in refused(*learn("-o", voices / "b.voice", recordings=("absent.wav",)))
    assert "ends in .voice" in refused(*learn("-o", voices / "b.wav"))
    assert "--output: missing" in refused(*learn())
    assert "give RECORDINGS" in refused(*vcvae("voice"))
    assert not (voices / "b.voice").exists()
    assert "cannot be read" in refused(*vcvae("info", voices / "b.voice"))
    assert "not a voice" in refused(*vcvae("info", voices / "ann.voice"))


@pytest.mark.slow
def test_voice_mixes_voices_and_recordings(learn, vcvae, voices, tiny_model, without_losses):
    ann, mixed = voices / "ann.voice", voices / "mixed.voice"
    learn("-o", ann, "--consent", "agreed", recordings=("src.wav",))
    options = ("--model", tiny_model, "--device", "cpu")
    code, out, err = vcvae("voice", "--mix", f"{ann}=3", "--mix", f"{voices / 'spk.wav'}=1", "-o", mixed, *options)
    assert (code, err) == (0, "")
    assert re.search(r"mixed\.voice: 0\.\d MB, 0\.75 ann \+ 0\.25 spk\nconsent: not stated", out)
    voice = Voice.load(mixed)
    assert voice.fingerprint == Voice.load(ann).fingerprint
    assert bool(voice.learned)
    command = ("convert", voices / "src.wav", "--target", mixed, "--model", tiny_model, "--vocoder", "griffin-lim")
    assert vcvae(*command)[0] == 0


def test_voice_draws_one_that_nobody_has(vcvae, voices, model_with_prior):
    options = ("--model", model_with_prior, "--device", "cpu", "--seed", 7)
    code, out, err = vcvae("voice", "--draw", "--f0", 110, "-o", voices / "new.voice", *options)
    assert (code, err) == (0, "")
    assert re.search(
        r"new\.voice: 0\.\d MB, mean F0 110 Hz\ncosine -?[01]\.\d\d with the most similar of 8 training", out
    )
    assert (Voice.load(voices / "new.voice").card.name, Voice.load(voices / "new.voice").card.note) == ("new", "seed 7")
    code, _, err = vcvae(
        *("voice", "--draw", "--like", voices / "spk.wav", "--distance", 1.2, "-o", voices / "b.voice", *options)
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "distance 1.2" in err
    (voices / "like").mkdir()
    (voices / "spk.wav").rename(voices / "like" / "spk.wav")
    (voices / "like" / "broken.wav").write_text("no audio")
    code, out, err = vcvae(
        "voice", "--draw", "--like", voices / "like", "--distance", 1e-5, "-o", voices / "c.voice", *options
    )
    assert (code, (voices / "c.voice").exists()) == (1, True)
    assert "distance from" in out
    assert "broken.wav" in err


def test_voice_refuses_mixtures_and_draws_that_do_not_fit(vcvae, voices, tiny_model):
    def refused(*arguments):
        code, out, err = vcvae("voice", *arguments, "-o", voices / "c.voice", "--model", tiny_model)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    spk = voices / "spk.wav"
    assert "no weight" in refused("--mix", spk)
    assert "no weight" in refused("--mix", f"{spk}=much")
    assert "none may be negative" in refused("--mix", f"{spk}=1", "--mix", f"{spk}=-1")
    assert "or one of --mix, --draw" in refused(spk, "--draw")
    assert "or one of --mix, --draw" in refused("--draw", "--mix", f"{spk}=1")
    assert "give --draw" in refused(spk, "--f0", 100)
    assert "give --draw" in refused(spk, "--f0", 0)
    assert "Give --like" in refused("--draw", "--distance", 0.5)
    assert "voice_prior.py" in refused("--draw")  # the smallest model has no prior
    assert not (voices / "c.voice").exists()


def test_voice_lists_and_removes_the_kept_ones(learn, vcvae, voices, without_losses):
    folder = voices / "cache" / "vcvae" / "voices"
    assert vcvae("voice", "--list") == (0, f"kept voices: 0, in {folder}\n", "")
    learn("-o", voices / "ann.voice", "--name", "Ann")
    folder.mkdir(parents=True)
    (voices / "ann.voice").rename(folder / "0123.voice")
    (folder / "damaged.voice").write_text("damaged")
    code, out, err = vcvae("voice", "--list")
    assert (code, err) == (0, "")
    assert re.search(r"Ann: 2 s of speech, 0\.\d MB, last used \d{4}-\d\d-\d\d \d\d:\d\d: .*0123\.voice\n", out)
    assert out.endswith(f"kept voices: 1, in {folder}\n")
    assert vcvae("voice", "--clear") == (0, f"removed voices: 2, from {folder}\n", "")
    assert list(folder.iterdir()) == []


def test_voice_of_the_example_fits_the_released_model(released):
    path = Path(__file__).parents[2] / "egs" / "convert" / "target.voice"
    voice = released.fitted(Voice.load(path))
    assert voice.learned
    assert voice.card.name == "Carlo Flora"
    assert path.stat().st_size <= 4_000_000
