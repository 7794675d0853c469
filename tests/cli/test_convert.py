"""vcvae convert, on two generated voices; mostly with an untrained model, as only files matter."""

import numpy as np
import pytest
import soundfile as sf

from tests.synthetic import RATE, speak
from vcvae.convert import converter as converter_module
from vcvae.convert import learner
from vcvae.convert.converter import Converter
from vcvae.models.conversion.voice import Voice


@pytest.fixture
def convert(vcvae, tiny_model):
    """`vcvae convert` with the smallest model."""

    def run(*arguments):
        return vcvae("convert", *arguments, "--model", tiny_model, "--vocoder", "griffin-lim", "--device", "cpu")

    return run


@pytest.fixture
def finetuned(monkeypatch):
    """A list that grows by an item for each fine-tuning, which takes two steps without the released networks."""
    calls = []

    def finetune(*arguments, steps, **options):
        calls.append(1)
        return real(*arguments, steps=2, **options)

    real = learner.finetune
    monkeypatch.setattr(learner, "finetune", finetune)
    monkeypatch.setattr(converter_module, "load_losses", lambda mel, vocoder: None)
    return calls


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


def test_convert_names_a_target_that_is_too_short(convert, voices):
    sf.write(voices / "ann.wav", speak("a", seconds=0.2), RATE)
    code, out, err = convert(voices / "src.wav", "--target", voices / "ann.wav", "-o", voices / "out.wav")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("vcvae: ann: 0.2")


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


@pytest.mark.slow
def test_convert_learns_a_voice_once_and_keeps_it(convert, voices, talks, finetuned):
    learning = ("--target", voices / "spk.wav", "--replay", voices / "src.wav")
    code, out, err = convert(voices / "src.wav", *learning)
    (kept,) = (voices / "cache" / "vcvae" / "voices").iterdir()
    output = voices / "src.to-spk.wav"
    assert (code, out, err) == (0, f"{output}\n", f"spk: the voice is kept in {kept}\n")
    assert convert(voices / "src.wav", *learning, "-o", voices / "b.wav") == (0, f"{voices / 'b.wav'}\n", "")
    assert convert(talks, *learning, "-o", voices / "out")[1] == "2 of 3 converted\n"
    assert finetuned == [1]
    convert(voices / "src.wav", "--target", kept, "-o", voices / "c.wav")
    assert (voices / "b.wav").read_bytes() == (voices / "c.wav").read_bytes() == output.read_bytes()
    assert convert(voices / "src.wav", *learning, "--no-cache", "-o", voices / "d.wav")[2] == ""
    assert finetuned == [1, 1]
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.slow
def test_convert_learns_each_target_of_a_table_once(convert, voices, finetuned):
    targets = [voices / f"{name}.wav" for name in "abab"]
    for name, f0 in (("a", 120), ("b", 220)):
        sf.write(voices / f"{name}.wav", speak("iaeiae", f0=f0, seconds=2.2), RATE)
    lines = [f"{voices / 'src.wav'}\t{target}\t{voices}/{n}.wav\n" for n, target in enumerate(targets)]
    (voices / "pairs.tsv").write_text("".join(lines))
    options = ("--pairs", voices / "pairs.tsv", "--replay", voices / "src.wav", "--no-cache")
    assert convert(*options) == (0, "4 of 4 converted\n", "")
    assert finetuned == [1, 1]
    outputs = [(voices / f"{n}.wav").read_bytes() for n in range(4)]
    assert outputs[:2] == outputs[2:]
    assert outputs[0] != outputs[1]
    assert convert(*options)[1] == "4 of 4 converted, 4 of them before; --force makes those again\n"
    assert finetuned == [1, 1]


def test_convert_quickly_learns_nothing(convert, voices, finetuned):
    assert convert(voices / "src.wav", "--target", voices / "spk.wav", "--quick")[0] == 0
    assert finetuned == []
    assert not (voices / "cache").exists()
    code, _, err = convert(voices / "src.wav", "--target", voices / "spk.wav", "--quick", "--replay", voices)
    assert (code, err) == (2, "vcvae: --replay: has no effect with --quick: nothing is learned; leave it out.\n")


@pytest.mark.parametrize("command", ["convert", "anonymize"])
def test_standard_input_is_not_refined_to(vcvae, voices, command):
    target = ("--target", voices / "spk.wav") if command == "convert" else ()
    code, out, err = vcvae(command, "-", *target, "--refine", 2, "-o", voices / "out.wav")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("vcvae: --refine: a voice is refined to a source before it is converted; give a file")


@pytest.mark.slow
def test_convert_refines_a_voice_to_the_source(vcvae, voices):
    """With the released model, in one step."""
    command = ("convert", voices / "src.wav", "--target", voices / "spk.wav", "--quick", "--device", "cpu")
    assert vcvae(*command, "-o", voices / "a.wav")[0] == 0
    assert vcvae(*command, "-o", voices / "b.wav", "--refine", 1) == (0, f"{voices / 'b.wav'}\n", "")
    plain, refined = sf.read(voices / "a.wav")[0], sf.read(voices / "b.wav")[0]
    assert len(plain) == len(refined)
    assert np.abs(plain - refined).max() > 0.01


def test_convert_learns_in_as_many_steps_as_asked(convert, voices, finetuned):
    target = ("--target", voices / "spk.wav", "--force")
    assert convert(voices / "src.wav", *target, "--steps", 0)[0] == 0
    assert finetuned == []
    assert convert(voices / "src.wav", *target, "--steps", 2)[0] == 0
    assert convert(voices / "src.wav", *target, "--steps", 2)[0] == 0
    assert len(finetuned) == 1
    assert convert(voices / "src.wav", *target, "--steps", 3)[0] == 0
    assert len(finetuned) == 2
    kept = [Voice.load(path).card.steps for path in sorted((voices / "cache").rglob("*.voice"))]
    assert sorted(kept) == [2, 3]


def test_convert_takes_a_voice_beside_recordings_only_in_a_table(convert, voices, tiny_model):
    converter = Converter.from_pretrained(tiny_model, vocoder="griffin-lim", device="cpu")
    converter.voice([voices / "spk.wav"]).save(voices / "ann.voice")
    src, spk, ann = voices / "src.wav", voices / "spk.wav", voices / "ann.voice"
    assert convert(src, "--target", ann)[1].strip() == str(voices / "src.to-ann.wav")
    convert(src, "--target", spk)
    kept, given = sf.read(voices / "src.to-ann.wav")[0], sf.read(voices / "src.to-spk.wav")[0]
    assert np.abs(kept - given).max() < 0.02
    (voices / "pairs.tsv").write_text(f"{src}\t{ann}\t{voices}/1.wav\n{src}\t{spk}\t{voices}/2.wav\n")
    assert convert("--pairs", voices / "pairs.tsv")[1] == "2 of 2 converted\n"
    for name, other in (("1", "src.to-ann"), ("2", "src.to-spk")):
        assert (voices / f"{name}.wav").read_bytes() == (voices / f"{other}.wav").read_bytes()
    code, _, err = convert(src, "--target", ann, "--target", spk, "-o", voices / "out.wav")
    assert (code, err.count("\n"), "a .voice is not combined" in err) == (2, 1, True)
    code, _, err = convert(src, "--target", ann, "--replay", spk, "-o", voices / "out.wav")
    assert (code, err.count("\n"), "--replay: has no effect with a .voice" in err) == (2, 1, True)


@pytest.mark.slow
def test_convert_refuses_a_voice_that_does_not_fit(convert, vcvae, voices):
    target = ("--target", voices / "ann.voice", "-o", voices / "out.wav")
    code, _, err = convert(voices / "src.wav", *target)
    assert (code, err.count("\n"), "ann.voice: cannot be read" in err) == (2, 1, True)
    assert vcvae("voice", voices / "spk.wav", "-o", voices / "ann.voice", "--steps", 0)[0] == 0
    code, _, err = convert(voices / "src.wav", *target)
    assert (code, err.count("\n"), "made for another model" in err) == (2, 1, True)
    assert not (voices / "out.wav").exists()


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


def test_convert_without_target_needs_a_model_of_a_pair(convert, voices):
    code, out, err = convert(voices / "src.wav")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "'vcvae voice'" in err
