"""vcvae anonymize: who gets which voice, what is kept, what is written, and how it goes on."""

import pytest
import soundfile as sf

from tests.synthetic import RATE, speak
from vcvae import Converter
from vcvae.convert import anonymize

KEY = bytes(range(32))


@pytest.fixture
def talks(tmp_path):
    """A folder of two speakers, two recordings of the one and one of the other, in a folder below."""
    for number, name in enumerate(("ann/1.wav", "ann/2.wav", "ben/talk/1.wav")):
        (tmp_path / "talks" / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path / "talks" / name, speak("aiu", f0=120 + 50 * number, seconds=0.5, seed=number), RATE)
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path / "talks"


@pytest.fixture
def run(vcvae, talks, model_with_prior):
    options = ("--model", model_with_prior, "--vocoder", "griffin-lim", "--device", "cpu")
    return lambda *arguments: vcvae("anonymize", talks, "-o", talks.parent / "out", *options, *arguments)


def table(path):
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert rows[0] == ["recording", "speaker", "seed", "output"]
    return {row[0]: row[1:] for row in rows[1:]}


def test_anonymize_gives_each_speaker_one_voice_and_keeps_names_and_lengths(run, talks):
    out, who = talks.parent / "out", talks.parent / "who.tsv"
    code, printed, err = run("--key", talks.parent / "key", "--table", who)
    assert (code, err) == (0, f"{who}: written; who has it knows the speakers\n")
    assert printed == "3 of 3 anonymized\n"
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert files == ["ann/1.wav", "ann/2.wav", "ben/talk/1.wav"]
    for name in files:
        assert sf.info(out / name).frames == sf.info(talks / name).frames
    rows = table(who)
    assert [row[0] for row in rows.values()] == ["ann", "ann", "ben"]
    assert rows["ann/1.wav"][1] == rows["ann/2.wav"][1] != rows["ben/talk/1.wav"][1]


@pytest.mark.slow
def test_anonymize_goes_on_with_the_key_to_the_same_result(run, talks):
    out, key = talks.parent / "out", talks.parent / "key"
    run("--key", key)
    first = (out / "ann" / "2.wav").read_bytes()
    (out / "ann" / "2.wav").unlink()
    assert run("--key", key)[1] == "3 of 3 anonymized, 2 of them before; --force makes those again\n"
    assert (out / "ann" / "2.wav").read_bytes() == first
    (out / "ann" / "2.wav").unlink()
    code, _, err = run()
    assert (code, err.count("\n")) == (2, 1)
    assert "--key" in err
    assert run("--force")[0] == 0  # another, random key
    assert (out / "ann" / "2.wav").read_bytes() != first


def test_anonymize_by_utterance_gives_each_a_voice(run, talks):
    who = talks.parent / "who.tsv"
    run("--by", "utterance", "--key", talks.parent / "key", "--table", who)
    assert len({row[1] for row in table(who).values()}) == 3


def test_anonymize_takes_speakers_from_a_table(run, talks):
    speakers, who = talks.parent / "speakers.tsv", talks.parent / "who.tsv"
    speakers.write_text("ann/1.wav\tx\nann/2\ty\nben/talk/1.wav\tx\n")
    assert run("--speakers", speakers, "--table", who)[0] == 0
    rows = table(who)
    assert rows["ann/1.wav"][:2] == rows["ben/talk/1.wav"][:2] != rows["ann/2.wav"][:2]
    speakers.write_text("ann/1.wav\tx\n")
    assert "no line for ann/2.wav" in run("--speakers", speakers, "--force")[2]
    speakers.write_text("ann/1.wav x\n")
    assert "line 1" in run("--speakers", speakers, "--force")[2]


def test_anonymize_reports_what_fails_and_does_the_rest(run, talks):
    (talks / "ann" / "3.wav").write_text("no audio")
    code, printed, err = run()
    assert code == 1
    assert "3 of 4 anonymized" in printed
    assert "3.wav" in err


def test_anonymize_refuses_what_would_give_speakers_away(run, talks):
    out = talks.parent / "out"
    assert "would be passed on" in run("--table", out / "who.tsv")[2]
    (talks.parent / "short").write_bytes(b"secret")
    assert "can be guessed" in run("--key", talks.parent / "short")[2]
    assert "make a key" in run("--key", talks.parent / "absent")[2]
    (talks.parent / "long").write_bytes(bytes(2**20 + 1))
    assert "larger than 1 MiB" in run("--key", talks.parent / "long")[2]
    assert not out.exists()


def test_anonymizer_is_never_near_the_source(model_with_prior, talks, monkeypatch):
    converter = Converter.from_pretrained(model_with_prior, vocoder="griffin-lim", device="cpu")
    recordings = [talks / "ann" / "1.wav"]
    monkeypatch.setattr(anonymize, "CANDIDATES", 1)
    first = anonymize.Anonymizer(converter, key=KEY)
    voice = first.voice("ann", recordings)
    source = converter.model.centred_embedding(converter.voice(recordings))
    cosine = float((source @ first._embedding(voice)).item())
    monkeypatch.setattr(anonymize, "SOURCE_SIMILARITY", cosine - 1e-4)  # from here on, that voice is near
    second = anonymize.Anonymizer(converter, key=KEY)
    other = second.voice("ann", recordings)
    assert second.seeds["ann"] != first.seeds["ann"]
    assert float((source @ second._embedding(other)).item()) < cosine


def test_anonymizer_takes_the_voice_least_similar_to_the_source(model_with_prior, talks):
    converter = Converter.from_pretrained(model_with_prior, vocoder="griffin-lim", device="cpu")
    recordings = [talks / "ann" / "1.wav"]
    anonymizer = anonymize.Anonymizer(converter, key=KEY)
    anonymizer.voice("ann", recordings)
    source = converter.model.centred_embedding(converter.voice(recordings))[0]
    similarities = {}
    for attempt in range(anonymize.CANDIDATES):
        seed = anonymizer._seed("ann", attempt)
        similarities[seed] = float(converter.model.centred_embedding(converter.draw(seed=seed))[0] @ source)
    assert len(set(similarities.values())) == anonymize.CANDIDATES
    assert anonymizer.seeds["ann"] == min(similarities, key=similarities.get)


def test_anonymizer_gives_the_farthest_voice_where_none_is_apart(model_with_prior, talks, monkeypatch):
    converter = Converter.from_pretrained(model_with_prior, vocoder="griffin-lim", device="cpu")
    monkeypatch.setattr(anonymize, "APART", -1.0)  # no voice is apart from another
    monkeypatch.setattr(anonymize, "ATTEMPTS", 4)
    anonymizer = anonymize.Anonymizer(converter, key=KEY)
    embedding = converter.model.centred_embedding
    first = embedding(anonymizer.voice("ann", [talks / "ann" / "1.wav"]))[0]
    anonymizer.voice("ben", [talks / "ben" / "talk" / "1.wav"])
    cosines = {}
    for attempt in range(4):
        seed = anonymizer._seed("ben", attempt)
        cosines[seed] = float(embedding(converter.draw(seed=seed))[0] @ first)
    assert anonymizer.seeds["ben"] == min(cosines, key=cosines.get)
