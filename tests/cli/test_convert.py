"""vcvae convert and adapt, on two generated voices; mostly with an untrained model, as only files matter."""

import re

import numpy as np
import pytest
import soundfile as sf

from tests.synthetic import RATE, speak
from vcvae.convert.converter import Converter
from vcvae.vocoder import GriffinLim


@pytest.fixture
def convert(vcvae, tiny_model):
    """`vcvae convert` with the smallest model."""

    def run(*arguments):
        return vcvae("convert", *arguments, "--model", tiny_model, "--vocoder", "griffin-lim", "--device", "cpu")

    return run


@pytest.fixture
def talks(voices):
    """A folder with two recordings and a file that is none, in a subfolder."""
    folder = voices / "talks" / "day 1"
    folder.mkdir(parents=True)
    sf.write(folder / "a.flac", speak("uao", seconds=0.7), RATE)
    sf.write(folder / "b.wav", speak("iae", seconds=0.7), RATE)
    (folder / "broken.wav").write_text("no audio")
    return voices / "talks"


def test_convert_writes_beside_the_source_by_default(vcvae, voices):
    """With the released model."""
    command = ("convert", voices / "src.wav", "--target", voices / "spk.wav")
    code, out, err = vcvae(*command)
    assert (code, err) == (0, "")
    assert out.strip() == str(voices / "src.to-spk.wav")
    samples, rate = sf.read(voices / "src.to-spk.wav")
    assert (len(samples), rate) == (RATE, RATE)
    assert sf.info(voices / "src.to-spk.wav").subtype == "PCM_16"


def test_convert_refuses_to_overwrite_without_force(convert, voices):
    command = (voices / "src.wav", "--target", voices / "spk.wav", "-o", voices / "out.wav")
    assert convert(*command)[0] == 0
    code, _, err = convert(*command)
    assert code == 2
    assert "--force" in err
    assert convert(*command, "--force")[0] == 0


def test_convert_averages_several_targets(convert, voices):
    targets = ("--target", voices / "spk.wav", "--target", voices / "src.wav")
    code, _, _ = convert(voices / "src.wav", *targets, "-o", voices / "out.flac", "--seed", 3)
    assert code == 0
    assert sf.info(voices / "out.flac").format == "FLAC"


def test_convert_reports_a_bad_file_of_a_folder_and_converts_the_others(convert, voices, talks):
    speaker = voices / "speaker"
    speaker.mkdir()
    (voices / "spk.wav").rename(speaker / "1.wav")
    code, out, err = convert(talks, "--target", speaker, "-o", voices / "out")
    assert code == 1
    assert "2 of 3 converted" in out
    assert "broken.wav" in err.replace("\n", "")
    assert sorted(p.relative_to(voices / "out").as_posix() for p in (voices / "out").rglob("*.*")) == [
        "day 1/a.wav",
        "day 1/b.wav",
    ]


def test_convert_finetunes_once_with_all_sources_of_a_folder(convert, voices, talks, tiny_model):
    learning = ("--target", voices / "spk.wav", "--steps", 2)
    code, out, _ = convert(talks, *learning, "-o", voices / "out")
    assert (code, "2 of 3 converted" in out) == (1, True)
    sources = [talks / "day 1" / name for name in ("a.flac", "b.wav")]
    converter = Converter.from_pretrained(tiny_model, vocoder="griffin-lim", device="cpu")
    finetuned, voice = converter.finetuned([voices / "spk.wav"], sources=sources, steps=2)
    for source in sources:
        finetuned.convert_file(source, voice, voices / "expected.wav", force=True)
        converted = voices / "out" / "day 1" / f"{source.stem}.wav"
        assert converted.read_bytes() == (voices / "expected.wav").read_bytes()
    convert(sources[1], *learning, "-o", voices / "alone.wav")
    assert (voices / "alone.wav").read_bytes() != (voices / "expected.wav").read_bytes()


def test_convert_keeps_files_of_one_stem_apart(convert, voices):
    (voices / "talks").mkdir()
    for name in ("a.wav", "a.flac", "b.wav"):
        sf.write(voices / "talks" / name, speak("uao", seconds=0.5), RATE)
    assert convert(voices / "talks", "--target", voices / "spk.wav", "-o", voices / "out")[0] == 0
    assert sorted(p.name for p in (voices / "out").iterdir()) == ["a.flac.wav", "a.wav.wav", "b.wav"]


def test_convert_takes_the_current_folder_as_source(convert, voices, monkeypatch):
    (voices / "here").mkdir()
    sf.write(voices / "here" / "a.wav", speak("uao", seconds=0.5), RATE)
    monkeypatch.chdir(voices / "here")
    assert convert(".", "--target", "../spk.wav")[0] == 0
    assert (voices / "here.to-spk" / "a.wav").exists()


def test_convert_prints_paths_as_they_are(convert, voices):
    name = voices / "a:dog:[red].wav"
    code, out, _ = convert(voices / "src.wav", "--target", voices / "spk.wav", "-o", name)
    assert code == 0
    assert out.strip() == str(name)


def test_convert_pairs(convert, voices):
    table = voices / "pairs.tsv"
    src, spk = voices / "src.wav", voices / "spk.wav"
    table.write_text(f"{src}\t{spk}\t{voices}/out/1.wav\n\n{src}\t{spk};{src}\t{voices}/out/2.wav\n")
    code, out, _ = convert("--pairs", table)
    assert code == 0
    assert "2 of 2" in out
    first = sf.read(voices / "out" / "1.wav")[0]
    second = sf.read(voices / "out" / "2.wav")[0]
    assert len(first) == len(second)
    assert not np.allclose(first, second)
    table.write_text(f"{src}\t{spk}\t{voices}/out/1.wav\n{voices}/nowhere.wav\t{spk}\t{voices}/out/3.wav\n")
    code, out, err = convert("--pairs", table, "--force")
    assert code == 1
    assert "1 of 2" in out
    assert "nowhere.wav" in err.replace("\n", "")
    assert not (voices / "out" / "3.wav").exists()


def test_convert_pairs_of_a_spreadsheet(convert, voices):
    """With a byte-order mark, carriage returns and spaces; and with a NUL in a name."""
    src, spk, table = voices / "src.wav", voices / "spk.wav", voices / "pairs.tsv"
    table.write_bytes(f"\ufeff{src} \t {spk}\t{voices}/1.wav\r\n".encode())
    assert convert("--pairs", table)[0] == 0
    table.write_text(f"{src}\0\t{spk}\t{voices}/2.wav\n{src}\t{spk}\t{voices}/3.wav\n")
    code, out, _ = convert("--pairs", table)
    assert (code, out) == (1, "1 of 2 converted\n")


def test_adapt_makes_a_model_that_needs_no_target(vcvae, voices, tiny_model):
    sf.write(voices / "long.wav", np.concatenate([speak("aiueo", f0=190, seconds=4.0, seed=i) for i in range(3)]), RATE)
    code, out, err = vcvae("adapt", voices / "long.wav", "-o", voices / "new", "--model", tiny_model, "--steps", 2)
    assert (code, err) == (0, "")
    assert re.search(r"new: fine-tuned on 0\.2 minutes of speech in \d+ pieces\n", out)
    command = ("convert", voices / "src.wav", "--model", voices / "new", "--vocoder", "griffin-lim", "--device", "cpu")
    code, out, err = vcvae(*command)
    assert (code, err) == (0, "")
    assert out.strip() == str(voices / "src.to-new.wav")
    converter = Converter.from_pretrained(voices / "new", vocoder="griffin-lim", device="cpu")
    assert isinstance(converter.vocoder, GriffinLim)
    code, _, err = vcvae("adapt", voices / "long.wav", "-o", voices / "new", "--model", tiny_model)
    assert code == 2
    assert "--force" in err


def test_convert_without_target_needs_a_model_with_a_voice(convert, voices):
    code, out, err = convert(voices / "src.wav")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "'vcvae adapt'" in err
