"""The evaluation of anonymization, whole, with the smallest model and a verifier of the long-term spectrum."""

import json

import numpy as np
import pytest

from tests.corpus import make_corpus
from vcvae import Converter, VoicePrior
from vcvae.convert import anonymize
from vcvae.errors import VcvaeError
from vcvae.evaluate import evaluate_anonymization
from vcvae.evaluate.measures import Similarity, WordErrors
from vcvae.models import load_model
from vcvae.vocoder import GriffinLim


def embed(samples):
    spectrum = np.abs(np.fft.rfft(samples))
    return np.array([band.mean() for band in np.array_split(spectrum, 16)])


class Refusing:
    labels = {"opinion": "quality by nobody"}  # noqa: RUF012

    def __call__(self, case, conversion):
        raise RuntimeError("no opinion")


@pytest.fixture
def converter(model_with_prior):
    return Converter(
        load_model(model_with_prior),
        GriffinLim(iterations=1),
        prior=lambda: VoicePrior.from_pretrained(model_with_prior),
    )


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anonymization")
    make_corpus(folder, speakers=2, utterances=4, seconds=1.0)
    return [(path, path.parent.name) for path in sorted(folder.rglob("*.wav")) if "source" in path.parts]


def test_anonymization_is_measured_and_reported(converter, utterances, tmp_path):
    report = evaluate_anonymization(
        converter, utterances, tmp_path, measures=[Similarity("fake", embed)], missing={"x": "not there"}
    )
    assert not report.failed
    written = json.loads((tmp_path / "report.json").read_text())
    assert set(written["errors"]["fake"]) == {
        "original",
        *(
            f"{what} enrolled, {mode}"
            for what in ("originals", "anonymized")
            for mode in ("by speaker", "by utterance")
        ),
    }
    assert all(0 <= value <= 1 for value in written["errors"]["fake"].values())
    assert "fake" in written["distinctiveness"]
    assert "f0_correlation" in written["summary"]
    assert written["trials"] == 4
    text = (tmp_path / "report.md").read_text()
    assert "No attacker was trained" in text
    assert "| x | not there |" in text
    assert len(list(tmp_path.glob("by-*/*/*.wav"))) == 16


def test_anonymization_counts_word_errors_against_transcripts(converter, utterances, tmp_path):
    recognizer = WordErrors("fake", lambda samples: "one three", str.lower)
    words = {path: "One two" for path, _ in utterances}
    report = evaluate_anonymization(converter, utterances, tmp_path, measures=[recognizer], transcripts=words)
    assert [value.mean for value in report.summary["word_errors"]] == [0.5, 0.5]
    report = evaluate_anonymization(converter, utterances, tmp_path, measures=[recognizer])
    assert report.summary["word_errors"][0].mean == 0.0


def test_anonymization_goes_on_and_refuses_other_settings(converter, utterances, tmp_path, monkeypatch):
    first = evaluate_anonymization(converter, utterances, tmp_path)
    monkeypatch.setattr(anonymize.Anonymizer, "voice", None)  # nothing is drawn again
    assert evaluate_anonymization(converter, utterances, tmp_path).as_json() == first.as_json()
    with pytest.raises(VcvaeError, match="other settings"):
        evaluate_anonymization(converter, utterances, tmp_path, seed=1)


def test_anonymization_names_what_fails(converter, utterances, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_text("no audio")
    path, speaker = utterances[0]
    report = evaluate_anonymization(
        converter, [*utterances, (broken, speaker)], tmp_path / "out", measures=[Refusing()]
    )
    assert "broken.wav" in " ".join(report.failed)
    assert "no opinion" in report.failed.values()
    with pytest.raises(VcvaeError, match="two speakers"):
        evaluate_anonymization(converter, [(path, speaker)] * 2, tmp_path / "one")
