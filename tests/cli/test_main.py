"""What all commands share: a help that imports little, errors in one sentence, and what is printed how."""

import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from functools import partial

import numpy as np
import pytest
import soundfile as sf
import torch
from typer.main import get_command

from tests.synthetic import RATE, speak
from vcvae import __version__
from vcvae.cli import app
from vcvae.errors import temporary_folder


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['vcvae', '--help']\nfrom vcvae.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    )
    code += "assert not {'torch', 'librosa', 'numpy', 'lhotse'} & set(sys.modules), 'heavy imports'"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ["convert", "voice", "anonymize", "live", "serve", "vocode", "encode", "decode", "denoise", "prepare"]
    names += ["train", "export", "fit", "run", "evaluate", "compare", "info", "env"]
    assert list(get_command(app).commands) == names
    assert all(name in result.stdout for name in names)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_wait_for_a_while_unless_the_environment_says_how_long(given, expected):
    code = "import os, sys; sys.argv = ['vcvae', '--version']\nfrom vcvae.cli import main\ntry: main()\n"
    code += "except SystemExit: print(os.environ.get('GOMP_SPINCOUNT'))"
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} | given
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.split()[-1] == expected


def test_convert_imports_only_what_it_needs():
    """These take seconds together, and only training, evaluation or classic models use them."""
    heavy = {"librosa", "numba", "sklearn", "lhotse", "accelerate", "matplotlib", "transformers"}
    code = f"import sys, vcvae.cli.targets\nassert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_main_leaves_no_log_handler_behind(vcvae):
    before = [list(logging.getLogger(name).handlers) for name in ("vcvae", None)]
    vcvae("env")
    assert [logging.getLogger(name).handlers for name in ("vcvae", None)] == before


def test_version_is_printed(vcvae):
    assert vcvae("--version") == (0, f"vcvae {__version__}\n", "")


def test_warnings_of_the_package_are_printed_and_those_of_libraries_are_not(vcvae, monkeypatch):
    def environment():
        warnings.warn("n_fft=1024 is too large", UserWarning, stacklevel=1)
        warnings.warn("this will change", FutureWarning, stacklevel=1)
        logging.getLogger("librosa").warning("of a library")
        logging.getLogger("vcvae").warning("a.wav: [1] is clipped")
        return {}

    monkeypatch.setattr("vcvae.environment.environment", environment)
    assert vcvae("env") == (0, "", "vcvae: a.wav: [1] is clipped\n")


@pytest.mark.slow
def test_output_that_the_encoding_cannot_hold_is_escaped(tmp_path):
    def run(encoding, *arguments):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        command = [sys.executable, "-m", "vcvae", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, env=environment)

    sf.write(tmp_path / "こんにちは.flac", speak("aiu", seconds=0.5), RATE)
    copied = run("ascii", "vocode", tmp_path / "こんにちは.flac", "--vocoder", "griffin-lim")
    assert (copied.returncode, copied.stderr) == (0, b"")
    assert copied.stdout.decode("ascii").strip().endswith(r"\u3053\u3093\u306b\u3061\u306f.copy.wav")
    assert (tmp_path / "こんにちは.copy.wav").exists()
    missing = run("cp1252", "train", tmp_path / "ここ.yaml")
    assert (missing.returncode, missing.stdout) == (2, b"")
    assert rb"\u3053\u3053.yaml" in missing.stderr
    explained = run("ascii", "convert", "--help")
    assert (explained.returncode, explained.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("streams", "sentence"),
    [(">&-", b"vcvae: /dev/stdout: is closed; give the path of a file.\n"), (">&- 2>&-", b"")],
)
def test_standard_output_that_is_closed_is_refused(tmp_path, streams, sentence):
    sf.write(tmp_path / "a.wav", speak("aiu", seconds=0.5), RATE)
    command = f'exec "$0" -m vcvae vocode a.wav -o - --vocoder griffin-lim {streams}'
    ended = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (2, sentence)


def test_env_prints_what_a_bug_report_needs(vcvae):
    code, out, _ = vcvae("env")
    assert code == 0
    for name in ("vcvae", "python", "torch", "devices", "threads"):
        assert f"{name}:" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "", "--target", "spk.wav"],
        ["convert", "a.wav", "--target", "b.wav", "--pitch-shift", "nan"],
        ["convert", "a.wav", "--target", "b.wav", "--seed", "99999999999999999999"],
        ["prepare", "folder", "a", "b", "--minimum", "nan"],
        ["encode", "pitch", "a.wav", "-o", "a.npy"],
        ["cook"],
    ],
)
def test_wrong_options_are_refused_without_a_traceback(vcvae, arguments):
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
    "latent's ending": (["encode", "speaker", "{d}/src.wav", "-o", "{d}/a.txt"], ".npy"),
    "latent below a file": (["encode", "speaker", "{d}/src.wav", "-o", "{d}/src.wav/a.npy"], "a.npy"),
    "long name": (["convert", "{d}/" + 300 * "x", "--target", "{d}/spk.wav"], "xxx"),
    "out within": (["convert", "{d}", "--target", "{d}/spk.wav", "-o", "{d}/out"], "lies within"),
    "tiny": (["convert", "{d}/tiny.wav", "--target", "{d}/spk.wav"], "tiny.wav: 0.0045 s"),
    "prepare to a file": (["prepare", "folder", "{d}/speakers", "{d}/src.wav"], "src.wav"),
    "no corpus": (["prepare", "folder", "{d}/empty", "{d}/ready"], "empty"),
    "unknown corpus": (["prepare", "x", "{d}/empty", "{d}/ready"], "CORPUS x"),
    "corpus to download by hand": (["prepare", "commonvoice", "{d}/cv", "{d}/ready", "--download"], "--download"),
    "nothing to train": (["train"], "CONFIG"),
    "nothing to fit": (["fit"], "CONFIG"),
    "unknown task": (["train", "--explain", "x"], "--explain x"),
    "no recipe": (["run", "{d}/recipe"], "{d}/recipe"),
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


def test_sigterm_ends_a_command_as_ctrl_c_does(vcvae, monkeypatch, tmp_path):
    folders = []

    def work():
        with temporary_folder(tmp_path) as folder:
            folders.append(folder)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("vcvae.environment.environment", work)
    before = signal.getsignal(signal.SIGTERM)
    assert vcvae("env") == (143, "", "")
    assert signal.getsignal(signal.SIGTERM) == before
    assert not folders[0].exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_in_a_destructor_ends_a_command_too(vcvae, monkeypatch, request, number, code):
    # In the background of a shell, which ignores Ctrl-C, this process would, too.
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)

    class Interrupted:
        def __del__(self):
            signal.raise_signal(number)

    def work():
        Interrupted()
        end = time.monotonic() + 5
        while time.monotonic() < end:
            time.sleep(0.01)
        return {"not": "reached"}

    monkeypatch.setattr("vcvae.environment.environment", work)
    assert vcvae("env") == (code, "", "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:73] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_is_one_sentence(vcvae, voices, monkeypatch, error):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr("vcvae.convert.encoder.Encoder.from_pretrained", fail)
    code, out, err = vcvae("encode", "mel", voices / "src.wav", "-o", voices / "mel.npy")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("vcvae: out of memory (")
    error = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes"):
        vcvae("encode", "mel", voices / "src.wav", "-o", voices / "mel.npy")
