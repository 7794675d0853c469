import logging
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
import yaml

from tests.corpus import TINY, make_corpus
from tests.synthetic import speak
from vcvae.cli import main

RATE = 22050


@pytest.fixture
def vcvae(monkeypatch, capsys):
    """Runs the command in this process → exit code, standard output, standard error."""

    def run(*arguments):
        if arguments[0] == "convert" and "--steps" not in arguments:
            arguments = (*arguments, "--steps", "0")  # how a voice is learned has tests of its own
        monkeypatch.setattr(sys, "argv", ["vcvae", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def voices(tmp_path):
    sf.write(tmp_path / "src.wav", speak("aisoe", pitch=110, seconds=1.0), RATE)
    sf.write(tmp_path / "spk.wav", speak("oeaui", pitch=210, tract=1.15, seconds=1.0), RATE)
    return tmp_path


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; sys.argv = ['vcvae', '--help']\nfrom vcvae.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    )
    code += "assert not {'torch', 'librosa', 'numpy', 'lhotse'} & set(sys.modules), 'heavy imports'"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in (
        "convert",
        "vocode",
        "encode",
        "decode",
        "denoise",
        "prepare",
        "train",
        "evaluate",
        "export",
        "env",
    ):
        assert command in result.stdout


def test_a_call_leaves_no_handler_behind(vcvae):
    before = list(logging.getLogger("vcvae").handlers)
    vcvae("env")
    assert logging.getLogger("vcvae").handlers == before


def test_the_result_lies_beside_the_source(vcvae, voices):
    code, out, err = vcvae("convert", voices / "src.wav", "--target", voices / "spk.wav")
    assert (code, err) == (0, "")
    assert out.strip() == str(voices / "src.to-spk.wav")
    samples, rate = sf.read(voices / "src.to-spk.wav")
    assert (len(samples), rate) == (RATE, RATE)
    assert sf.info(voices / "src.to-spk.wav").subtype == "PCM_16"
    code, _, err = vcvae("convert", voices / "src.wav", "--target", voices / "spk.wav")
    assert code == 2
    assert "--force" in err
    assert vcvae("convert", voices / "src.wav", "--target", voices / "spk.wav", "--force")[0] == 0


def test_several_targets_and_a_flac(vcvae, voices):
    targets = ("--target", voices / "spk.wav", "--target", voices / "src.wav")
    code, _, _ = vcvae("convert", voices / "src.wav", *targets, "-o", voices / "out.flac", "--seed", 3)
    assert code == 0
    assert sf.info(voices / "out.flac").format == "FLAC"


def test_folders_go_on_past_a_bad_file(vcvae, voices):
    talks, speaker = voices / "talks" / "day 1", voices / "speaker"
    talks.mkdir(parents=True)
    speaker.mkdir()
    for name in ("a.flac", "b.wav"):
        sf.write(talks / name, speak("uao", seconds=0.7), RATE)
    (talks / "broken.wav").write_text("no audio")
    sf.write(speaker / "1.wav", speak("oeaui", pitch=210, seconds=1.0), RATE)
    code, out, err = vcvae("convert", voices / "talks", "--target", speaker, "-o", voices / "out")
    assert code == 1
    assert "2 of 3 converted" in out
    assert "broken.wav" in err.replace("\n", "")
    assert sorted(p.name for p in (voices / "out").rglob("*.*")) == ["a.wav", "b.wav"]
    assert (voices / "out" / "day 1" / "a.wav").exists()


def test_files_of_one_stem_do_not_overwrite_each_other(vcvae, voices):
    (voices / "talks").mkdir()
    for name in ("a.wav", "a.flac", "b.wav"):
        sf.write(voices / "talks" / name, speak("uao", seconds=0.7), RATE)
    assert vcvae("convert", voices / "talks", "--target", voices / "spk.wav", "-o", voices / "out")[0] == 0
    assert sorted(p.name for p in (voices / "out").iterdir()) == ["a.flac.wav", "a.wav.wav", "b.wav"]


def test_the_folder_one_is_in_can_be_the_source(vcvae, voices, monkeypatch):
    (voices / "here").mkdir()
    sf.write(voices / "here" / "a.wav", speak("uao", seconds=0.7), RATE)
    monkeypatch.chdir(voices / "here")
    assert vcvae("convert", ".", "--target", "../spk.wav")[0] == 0
    assert (voices / "here.to-spk" / "a.wav").exists()


def test_tables_as_spreadsheets_write_them(vcvae, voices):
    src, spk, table = voices / "src.wav", voices / "spk.wav", voices / "pairs.tsv"
    table.write_bytes(f"\ufeff{src} \t {spk}\t{voices}/1.wav\r\n".encode())
    assert vcvae("convert", "--pairs", table)[0] == 0
    table.write_text(f"{src}\0\t{spk}\t{voices}/2.wav\n{src}\t{spk}\t{voices}/3.wav\n")
    code, out, _ = vcvae("convert", "--pairs", table)
    assert (code, out) == (1, "1 of 2 converted\n")


def test_paths_are_printed_as_they_are(vcvae, voices):
    name = voices / "a:dog:[red].wav"
    code, out, _ = vcvae("convert", voices / "src.wav", "--target", voices / "spk.wav", "-o", name)
    assert code == 0
    assert out.strip() == str(name)


def test_pairs(vcvae, voices):
    table = voices / "pairs.tsv"
    src, spk = voices / "src.wav", voices / "spk.wav"
    table.write_text(f"{src}\t{spk}\t{voices}/out/1.wav\n\n{src}\t{spk};{src}\t{voices}/out/2.wav\n")
    code, out, _ = vcvae("convert", "--pairs", table)
    assert code == 0
    assert "2 of 2" in out
    first, second = (sf.read(voices / "out" / f"{i}.wav")[0] for i in (1, 2))
    assert len(first) == len(second)
    assert not np.allclose(first, second)
    table.write_text(f"{src}\t{spk}\t{voices}/out/1.wav\n{voices}/nowhere.wav\t{spk}\t{voices}/out/3.wav\n")
    code, out, err = vcvae("convert", "--pairs", table, "--force")
    assert code == 1
    assert "1 of 2" in out
    assert "nowhere.wav" in err.replace("\n", "")
    assert not (voices / "out" / "3.wav").exists()


def test_latents_are_written(vcvae, voices):
    assert vcvae("encode", voices / "spk.wav", "--speaker", "-o", voices / "a.npy")[0] == 0
    assert vcvae("encode", voices / "spk.wav", "--content", "-o", voices / "b.npy")[0] == 0
    speaker, content = np.load(voices / "a.npy"), np.load(voices / "b.npy")
    assert speaker.dtype == content.dtype == np.float32
    assert speaker.ndim == 1
    assert content.shape[1] == 22


def test_env_says_what_a_bug_report_needs(vcvae):
    code, out, _ = vcvae("env")
    assert code == 0
    for name in ("vcvae", "python", "torch", "devices", "threads"):
        assert f"{name}:" in out


def test_prepare_train_export_convert(vcvae, voices, tmp_path):
    make_corpus(tmp_path / "corpus", speakers=2)
    code, out, _ = vcvae("prepare", "folder", tmp_path / "corpus" / "source", tmp_path / "ready", "--jobs", 1)
    assert code == 0
    assert "4 utterances; speakers: train 2, dev 0, test 0" in out
    config = {
        "task": "conversion",
        "output": str(tmp_path / "run"),
        "data": dict.fromkeys(("train", "dev"), str(tmp_path / "ready" / "train")),
        "batch_speakers": 2,
        "segment_frames": 16,
        "workers": 0,
        "validation_speakers": 2,
        "model": TINY,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert vcvae("train", tmp_path / "config.yaml", "--set", "steps=1")[0] == 0
    assert vcvae("export", tmp_path / "run", tmp_path / "model")[0] == 0
    assert (tmp_path / "model" / "README.md").exists()
    code, _, err = vcvae("export", tmp_path / "run", tmp_path / "model")
    assert code == 2
    assert "--force" in err
    code, _, err = vcvae("export", tmp_path / "run", voices / "src.wav")
    assert code == 2
    assert err.count("\n") == 1
    code, _, err = vcvae("train", tmp_path / "config.yaml", "--set", f"output={voices / 'src.wav'}/x")
    assert code == 2
    assert "cannot be written" in err
    arguments = ("convert", voices / "src.wav", "--target", voices / "spk.wav", "--model", tmp_path / "model")
    assert vcvae(*arguments)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "", "--target", "spk.wav"],
        ["convert", "a.wav", "--target", "b.wav", "--pitch-shift", "nan"],
        ["convert", "a.wav", "--target", "b.wav", "--seed", "99999999999999999999"],
        ["prepare", "folder", "a", "b", "--minimum", "nan"],
        ["cook"],
    ],
)
def test_a_wrong_option_is_refused_by_its_name(vcvae, arguments):
    code, out, err = vcvae(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err


BAD = {
    "missing source": (["convert", "{d}/nowhere.wav", "--target", "{d}/spk.wav"], "nowhere.wav"),
    "missing target": (["convert", "{d}/src.wav", "--target", "{d}/nowhere.wav"], "nowhere.wav"),
    "no target": (["convert", "{d}/src.wav"], "--target"),
    "no source": (["convert", "--target", "{d}/spk.wav"], "SOURCE"),
    "unknown ending": (["convert", "{d}/src.wav", "--target", "{d}/spk.wav", "-o", "{d}/out.mp3"], "out.mp3"),
    "no such folder": (["convert", "{d}/src.wav", "--target", "{d}/spk.wav", "-o", "{d}/no/out.wav"], "no/out.wav"),
    "not audio": (["convert", "{d}/text.wav", "--target", "{d}/spk.wav"], "text.wav"),
    "silent": (["convert", "{d}/silent.wav", "--target", "{d}/spk.wav"], "silent.wav"),
    "too short": (["convert", "{d}/short.wav", "--target", "{d}/spk.wav"], "at least 0.0175 s"),
    "unknown vocoder": (["convert", "{d}/src.wav", "--target", "{d}/spk.wav", "--vocoder", "x"], "griffin-lim"),
    "unknown device": (["convert", "{d}/src.wav", "--target", "{d}/spk.wav", "--device", "x"], "--device x"),
    "unknown model": (["convert", "{d}/src.wav", "--target", "{d}/spk.wav", "--model", "{d}/x"], "{d}/x"),
    "empty folder": (["convert", "{d}/empty", "--target", "{d}/spk.wav"], "empty"),
    "no pairs": (["convert", "--pairs", "{d}/nowhere.tsv"], "nowhere.tsv"),
    "bad pairs": (["convert", "--pairs", "{d}/text.wav"], "line 1"),
    "pairs and source": (["convert", "{d}/src.wav", "--pairs", "{d}/text.wav"], "--pairs"),
    "both latents": (["encode", "{d}/src.wav", "--speaker", "--content", "-o", "{d}/a.npy"], "one of"),
    "latent's ending": (["encode", "{d}/src.wav", "--speaker", "-o", "{d}/a.txt"], ".npy"),
    "latent below a file": (["encode", "{d}/src.wav", "--speaker", "-o", "{d}/src.wav/a.npy"], "a.npy"),
    "long name": (["convert", "{d}/" + 300 * "x", "--target", "{d}/spk.wav"], "xxx"),
    "out within": (["convert", "{d}", "--target", "{d}/spk.wav", "-o", "{d}/out"], "lies within"),
    "tiny": (["convert", "{d}/tiny.wav", "--target", "{d}/spk.wav"], "tiny.wav: 0.0045 s"),
    "prepare to a file": (["prepare", "folder", "{d}/speakers", "{d}/src.wav"], "src.wav"),
    "no corpus": (["prepare", "folder", "{d}/empty", "{d}/ready"], "empty"),
    "unknown corpus": (["prepare", "x", "{d}/empty", "{d}/ready"], "CORPUS x"),
    "corpus to download by hand": (["prepare", "commonvoice", "{d}/cv", "{d}/ready", "--download"], "--download"),
    "no configuration": (["train", "{d}/nowhere.yaml"], "nowhere.yaml"),
    "no run": (["export", "{d}/empty", "{d}/model"], "empty"),
}


@pytest.mark.parametrize(("arguments", "named"), BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(vcvae, voices, arguments, named):
    (voices / "text.wav").write_text("no audio")
    (voices / "empty").mkdir()
    sf.write(voices / "silent.wav", np.zeros(RATE), RATE)
    sf.write(voices / "short.wav", 0.1 * np.ones(300) * (-1) ** np.arange(300), RATE)
    sf.write(voices / "tiny.wav", 0.1 * np.ones(100) * (-1) ** np.arange(100), RATE)
    (voices / "speakers" / "a").mkdir(parents=True)
    sf.write(voices / "speakers" / "a" / "1.wav", speak("a"), RATE)
    before = sorted(voices.rglob("*"))
    code, out, err = vcvae(*(argument.format(d=voices) for argument in arguments))
    assert code == 2
    assert out == ""
    assert err.startswith("vcvae: ")
    assert err.count("\n") == 1
    assert named.format(d=voices) in err
    assert sorted(voices.rglob("*")) == before


def test_copies_of_a_file_a_folder_and_a_mel(vcvae, voices):
    code, out, _ = vcvae("vocode", voices / "src.wav")
    assert (code, out.strip()) == (0, str(voices / "src.copy.wav"))
    assert sf.info(voices / "src.copy.wav").frames == RATE
    assert vcvae("vocode", voices / "src.wav")[0] == 2  # it exists
    assert vcvae("encode", voices / "src.wav", "--mel", "-o", voices / "src.npy")[0] == 0
    assert vcvae("vocode", voices / "src.npy", "-o", voices / "from-mel.flac")[0] == 0
    assert sf.info(voices / "from-mel.flac").frames == -(-RATE // 256) * 256
    (voices / "talks").mkdir()
    (voices / "src.wav").rename(voices / "talks" / "a.wav")
    (voices / "talks" / "b.wav").write_text("no audio")
    code, out, err = vcvae("vocode", voices / "talks", "-o", voices / "copies", "--vocoder", "griffin-lim")
    assert code == 1
    assert "1 of 2 copied" in out
    assert "b.wav" in err.replace("\n", "")
    assert sf.info(voices / "copies" / "a.wav").frames == RATE
