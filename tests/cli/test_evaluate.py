"""vcvae evaluate, whole, on generated speakers and an untrained model."""

import builtins
import json
import os
import re
import shutil

import numpy as np
import pytest
import soundfile as sf

from tests.corpus import make_corpus
from tests.synthetic import RATE, speak
from vcvae.convert import encoder
from vcvae.evaluate import pictures, plugins

PIXEL = b"\x89PNG\r\n\x1a\n"  # what the page embeds where pictures are not drawn


class Verifier:
    """Its embedding is the long-term spectrum in 16 bands."""

    def __init__(self, _):
        pass

    def embed(self, samples):
        spectrum = np.abs(np.fft.rfft(samples))
        return np.array([band.mean() for band in np.array_split(spectrum, 16)])


class Recognizer:
    def __init__(self, _):
        pass

    def transcribe(self, samples):
        return "hello you" if len(samples) > 16000 else "hello"

    def normalize(self, text):
        return text.lower()


class FakePredictor:
    labels = {"mean": "quality by nobody"}  # noqa: RUF012

    def __init__(self, _):
        pass

    def rate(self, samples):
        raise RuntimeError("no opinion")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder with a prepared corpus, three recordings and a table of two cases."""
    folder = tmp_path_factory.mktemp("evaluate")
    make_corpus(folder, speakers=4, utterances=3, seconds=1.0)
    voices = {"source": 110, "target": 210, "reference": 210}
    for name, f0 in voices.items():
        words = "oeaui" if name == "target" else "aisoe"
        sf.write(folder / f"{name}.wav", speak(words, f0=f0, seconds=1.2), RATE)
    (folder / "cases.tsv").write_text(
        "id\tsource\ttargets\ttranscript\treference\n"
        "first\tsource.wav\ttarget.wav\tHELLO ME\treference.wav\n"
        "second\ttarget.wav\tsource.wav;reference.wav\n"
    )
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures take longer to draw than conversions of the smallest model take."""

    def draw(path, *_, **__):
        path.write_bytes(PIXEL)

    monkeypatch.setattr(pictures, "plot_mels", draw)
    monkeypatch.setattr(pictures, "plot_speakers", draw)


@pytest.fixture
def evaluate(vcvae, tiny_model, tmp_path, monkeypatch):
    """`vcvae evaluate` with the smallest model, where it converts without fine-tuning."""
    monkeypatch.setattr(encoder, "MIN_VOICED", 0.0)  # untrained, it finds no voicing in some recordings

    def run(*arguments, output="out"):
        converts = not {"--converted", "--anonymization"} & set(arguments)
        quick = ("--steps", 0, "--vocoder", "griffin-lim") if converts else ()
        return vcvae("evaluate", tiny_model, *quick, "--device", "cpu", "-o", tmp_path / output, *arguments)

    return run


@pytest.mark.slow
def test_evaluate_a_corpus(evaluate, shared, tmp_path, monkeypatch):
    monkeypatch.setitem(plugins.VERIFIERS, "fake", Verifier)
    code, out, err = evaluate("--corpus", shared / "ready" / "train", "--count", 3, "--verifier", "fake")
    assert (code, err) == (0, "")
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    ids = [f"{n:04d}" for n in range(3)]
    assert written == {
        "report.json", "report.md", "report.html", "settings.json", "pictures/speakers.png",
        *(f"conversions/{i}.wav" for i in ids), *(f"pictures/{i}.png" for i in ids),
        *(f"recordings/{i}.{name}.flac" for i in ids for name in ("source", "target")),
    }  # fmt: skip
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(report["cases"]) == 3
    similarity = report["summary"]["fake_target"]["conversions"]
    assert 0 < similarity["low"] <= similarity["mean"] <= similarity["high"] <= 1
    assert similarity["count"] == 3
    assert set(report["speakers"]) == {
        "equal_error_rate",
        "retrieval",
        "probe_speaker",
        "probe_content",
        "probe_covariance",
    }
    verified = report["verification"]["fake"]
    assert verified["same_speaker"]["count"] == 4 * 3  # each utterance with the others of its speaker
    assert verified["strangers"]["count"] == 4 * 3
    assert 0 < verified["equal_error_rate"] < 1
    assert 0 <= verified["accepted"]["mean"] <= 1
    assert "| fake | " in out
    assert report["speakers"]["probe_content"]["chance"] == pytest.approx(1 / 4)
    assert report["speakers"]["probe_content"]["value"]["count"] == 4  # of three utterances each, one is unseen
    assert "reference" in report["missing"]["mel-cepstral distortion from the reference, dB"]
    assert (tmp_path / "out" / "report.md").read_text().strip() in out

    page = (tmp_path / "out" / "report.html").read_text()
    played = re.findall(r'src="([^"]+\.(?:wav|flac))"', page)
    assert len(played) == 9
    for name in played:
        assert sf.info(tmp_path / "out" / name).frames > 0.5 * RATE
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r"https?://", page)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_evaluate_a_table_and_report_what_is_missing_or_fails(evaluate, shared, tmp_path, monkeypatch):
    monkeypatch.setitem(plugins.VERIFIERS, "fake", Verifier)
    monkeypatch.setitem(plugins.RECOGNIZERS, "fake", Recognizer)
    monkeypatch.setitem(plugins.QUALITIES, "fake", FakePredictor)
    monkeypatch.setitem(plugins.QUALITIES, "bare", plugins.DNSMOS)
    named = ("--verifier", "fake", "--asr", "fake", "--quality", "fake", "--quality", "bare:/nowhere")
    code, out, _ = evaluate("--cases", shared / "cases.tsv", *named)
    assert code == 1  # for the predictor failed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    first, second = report["cases"]
    assert first["failed"] == second["failed"] == "mean: no opinion"
    assert first["measures"]["word_errors"] == {"conversion": [1, 2], "source": [1, 2]}
    assert second["measures"]["word_errors"] == {"conversion": [0, 2], "source": None}
    assert "distortion" in first["measures"]
    assert "distortion" not in second["measures"]
    assert report["summary"]["word_errors"]["conversions"]["mean"] == 0.25
    assert report["summary"]["distortion"]["conversions"]["count"] == 1
    assert report["summary"]["fake_target"]["sources"]["count"] == 2
    assert {"bare:/nowhere", "quality by nobody"} <= set(report["missing"])
    assert "--corpus" in report["missing"]["metrics of the latents"]
    assert "| quality by nobody | could not be measured in any case |" in out
    assert "“HELLO ME”" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_evaluate_keeps_finished_conversions(evaluate, shared, tmp_path):
    command = ("--cases", shared / "cases.tsv")
    assert evaluate(*command)[0] == 0
    first = tmp_path / "out" / "conversions" / "first.wav"
    second = tmp_path / "out" / "conversions" / "second.wav"
    second.unlink()
    shutil.copy(shared / "source.wav", first)  # as if the conversion were perfect
    os.utime(first, (1, 1))
    assert evaluate(*command)[0] == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["cases"][0]["measures"]["f0_correlation"]["conversion"] == pytest.approx(1)
    assert first.stat().st_mtime == 1
    assert second.exists()
    assert evaluate(*command, "--force")[0] == 0
    assert first.stat().st_mtime > 1
    os.utime(first, (1, 1))
    shutil.copy(shared / "cases.tsv", tmp_path / "cases.tsv")
    text = (tmp_path / "cases.tsv").read_text().replace("first\tsource.wav", "first\treference.wav")
    (tmp_path / "cases.tsv").write_text(text)
    for arguments, what in (
        (("--cases", tmp_path / "cases.tsv", "--root", shared), "table of cases"),
        ((*command, "--steps", 1), "losses and another steps"),
    ):
        code, out, err = evaluate(*arguments)
        assert (code, out) == (2, "")
        assert f"holds conversions with another {what}; give another -o, or --force" in err
    assert first.stat().st_mtime == 1


@pytest.mark.usefixtures("no_pictures")
def test_evaluate_measures_conversions_of_another_system_and_compares(evaluate, shared, vcvae, tmp_path, monkeypatch):
    monkeypatch.setitem(plugins.RECOGNIZERS, "fake", Recognizer)
    (tmp_path / "other").mkdir()
    for name in ("first", "second"):
        sf.write(tmp_path / "other" / f"{name}.flac", speak("aisoe", f0=210, seconds=1.2), 16000)
    arguments = ("--cases", shared / "cases.tsv", "--converted", tmp_path / "other")
    code, out, err = evaluate(*arguments, "--asr", "fake", "--asr", "fake:folder/large")
    assert (code, err) == (0, "")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"] == {"seed": 0, "converted": str(tmp_path / "other")}
    assert report["speakers"] == {}
    assert report["summary"]["word_errors"] == report["summary"]["fake_large_word_errors"] | {
        "label": "word error rate, fake"
    }
    assert sf.info(tmp_path / "out" / "conversions" / "first.wav").samplerate == RATE
    assert "Conversions of another system" in out
    (tmp_path / "other" / "second.flac").unlink()
    code, out, _ = evaluate(*arguments, output="less")
    assert code == 1
    assert "holds no second.wav, the conversion of" in out
    command = ("compare", tmp_path / "out", tmp_path / "less", "-o", tmp_path / "table.md")
    code, out, _ = vcvae(*command)
    assert code == 0
    assert out.startswith("|  | natural | out | less |")
    assert (tmp_path / "table.md").read_text() == out
    code, _, err = vcvae(*command)
    assert (code, err.count("\n")) == (2, 1)
    assert "--force" in err


@pytest.mark.usefixtures("no_pictures")
def test_evaluate_goes_on_past_a_bad_recording(evaluate, shared, tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    (tmp_path / "cases.tsv").write_text(
        f"id\tsource\ttargets\nbad\t{tmp_path}/bad.wav\ttarget.wav\ngood\tsource.wav\ttarget.wav\n"
    )
    code, out, _ = evaluate("--cases", tmp_path / "cases.tsv", "--root", shared)
    assert code == 1
    assert re.search(r"^\| bad \| .*bad\.wav: ", out, re.M)
    assert [path.name for path in (tmp_path / "out" / "conversions").iterdir()] == ["good.wav"]
    (tmp_path / "cases.tsv").write_text(f"id\tsource\ttargets\nbad\t{tmp_path}/bad.wav\ttarget.wav\n")
    code, _, err = evaluate("--cases", tmp_path / "cases.tsv", "--root", shared, output="none")
    assert code == 2
    assert err.count("\n") == 1
    assert "no case could be converted; the first failure:" in err


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id\tsource\tgoals\n", "line 1 names no column 'targets'"),
        ("id\tsource\ttargets\n1\tno.wav\ta.wav\n", "line 2: the source"),
    ],
)
def test_evaluate_refuses_a_bad_table_before_any_work(evaluate, tmp_path, table, message):
    (tmp_path / "cases.tsv").write_text(table)
    code, out, err = evaluate("--cases", tmp_path / "cases.tsv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_evaluate_refuses_what_it_cannot_do_in_one_sentence(evaluate, shared, tmp_path, monkeypatch):
    for arguments, message in (
        ((), "--cases, or a prepared folder with --corpus"),
        (("--corpus", tmp_path), "not prepared audio"),
        (("--cases", shared / "cases.tsv", "--asr", "wisper"), "--asr wisper: unknown; use one of: whisper."),
        (
            ("--cases", shared / "cases.tsv", "--converted", tmp_path, "--cost"),
            "--cost: has no effect with --converted",
        ),
        (("--corpus", shared / "ready" / "train", "--anonymization", "--cost"), "--cost: has no effect with --anon"),
        (("--corpus", shared / "ready" / "train", "--anonymization", "--stream"), "--stream: has no effect with"),
        (
            ("--corpus", shared / "ready" / "train", "--anonymization", "--count", 3, "--steps", 5),
            "--count, --steps: have no effect with --anonymization; leave them out.",
        ),
        (("--cases", shared / "cases.tsv", "--count", 3), "--count: has no effect with --cases"),
        (("--corpus", shared / "ready" / "train", "--root", shared), "--root: has no effect without --cases"),
        (("--cases", shared / "cases.tsv", "--stream", "--converted", tmp_path), "--stream: has no effect with --conv"),
        (("--cases", shared / "cases.tsv", "--converted", tmp_path, "--steps", 0), "--steps: has no effect with"),
        (("--cases", shared / "cases.tsv", "--stream", "--cost"), "--cost: has no effect with --stream"),
        (("--cases", shared / "cases.tsv", "--refine", 1, "--cost"), "--cost: has no effect with --refine"),
        (("--cases", shared / "cases.tsv", "--stream"), "a stream needs the source-filter vocoder"),
        (("--anonymization",), "--corpus alone"),
        (("--cases", shared / "cases.tsv", "--converted", tmp_path / "no"), "give a folder with audio files"),
    ):
        code, out, err = evaluate(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
    real = builtins.__import__

    def without_matplotlib(name, *rest):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    code, _, err = evaluate("--cases", shared / "cases.tsv")
    assert (code, err.count("\n")) == (2, 1)
    assert "pictures need matplotlib" in err
    assert not (tmp_path / "out").exists()
