"""Tables and folders are looked at as a whole before any work begins, and many failures take few lines."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.synthetic import RATE, speak
from vcvae.audio import opening
from vcvae.cli.batch import Batch, Failures, Job, read_batch, read_pairs
from vcvae.errors import VcvaeError
from vcvae.models.conversion.voice import Voice


def pairs(folder, *lines):
    table = folder / "pairs.tsv"
    table.write_text("".join(f"{line}\n".replace("@", str(folder)) for line in lines), encoding="utf-8")
    return table


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["@/src.wav\t@/spk.wav"], "line 1 is not source, target"),
        (["@/src.wav\t\t@/o.wav"], "line 1 is not source, target"),
        (["@/src.wav\t;;\t@/o.wav"], "line 1 is not source, target"),
        (["", "@/src.wav  @/spk.wav  @/o.wav"], "line 2 is not source, target"),
        (["@/src.wav\t@/spk.wav\t/"], r"line 1 has an output that does not end in \.wav or \.flac"),
        (["@/src.wav\t@/spk.wav\t@"], "line 1 has an output that does not end"),
        (["@/src.wav\t@/spk.wav\t@/o.xyz"], "line 1 has an output that does not end"),
        (["@/a.wav\t@/spk.wav\t@/o.wav", "@/b.wav\t@/spk.wav\t@/x/../o.wav"], "line 2 .* is the output of line 1"),
        (["@/src.wav\t@/spk.wav\t@/src.wav"], "line 1 has an output that is the source of line 1"),
        (["@/a.wav\t@/spk.wav\t@/b.wav", "@/b.wav\t@/spk.wav\t@/c.wav"], "line 1 .* is the source of line 2"),
        (["@/a.wav\t@/x.wav;@/b.wav\t@/./b.wav"], "line 1 has an output that is the target of line 1"),
        (["x" * 70_000], "line 1 is longer than"),
        ([], "an empty file"),
        (["", " "], "holds no lines"),
    ],
)
def test_read_pairs_names_the_line_that_is_wrong(tmp_path, lines, message):
    (tmp_path / "x").mkdir()
    with pytest.raises(VcvaeError, match=rf"pairs\.tsv: .*{message}"):
        read_pairs(pairs(tmp_path, *lines))


def test_read_pairs_finds_an_output_behind_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "a.wav").touch()
    (tmp_path / "b.wav").symlink_to(tmp_path / "real" / "a.wav")
    for source in ("linked/a.wav", "b.wav"):
        with pytest.raises(VcvaeError, match="is the source"):
            read_pairs(pairs(tmp_path, f"@/{source}\t@/spk.wav\t@/real/a.wav"))


def test_read_pairs_lists_the_first_of_many_wrong_lines_and_counts_the_others(tmp_path, capfd):
    with pytest.raises(VcvaeError, match=r"3,000 lines are wrong, such as line 1; correct them\.$"):
        read_pairs(pairs(tmp_path, *["a\tb"] * 3000))
    printed = capfd.readouterr().err
    assert "line 20 " in printed
    assert "line 21 " not in printed
    assert "and 2,980 more" in printed


def test_batch_sets_aside_what_cannot_be_done(tmp_path):
    for name in ("src.wav", "spk.wav", "done.wav"):
        sf.write(tmp_path / name, np.zeros(10), RATE)
    (tmp_path / "file").touch()
    lines = ["@/none.wav\t@/spk.wav\t@/1.wav", "@/src.wav\t@/none.wav\t@/2.wav", "@/src.wav\t@/spk.wav\t@/done.wav"]
    lines += ["@/src.wav\t@/spk.wav\t@/file/4.wav", "@/src.wav\t@/spk.wav\t@/new/5.wav"]
    batch = read_pairs(pairs(tmp_path, *lines))
    batch.check_output(force=False)
    assert [job.output.name for job in batch.jobs] == ["5.wav"]
    assert (batch.total, batch.finished, batch.failures.count) == (5, 1, 3)
    expected = ("No such file", "No such file", "no folder")
    for (_, why), words in zip(batch.failures.first, expected, strict=True):
        assert words in why
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_pairs_with_many_failures_take_little_time_memory_and_output(tmp_path):
    table = pairs(tmp_path, *(f"@/none-{i}.wav\t@/none.wav\t@/out/{i}.wav" for i in range(20_000)))
    code = (
        "import resource, sys, time; from pathlib import Path\n"
        "import vcvae.audio; from vcvae.cli.batch import read_pairs\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before, start = peak(), time.process_time()\n"
        "batch = read_pairs(Path(sys.argv[1])); batch.check_output(False)\n"
        "batch.run(None, lambda *_: None)\n"
        "print(peak() - before, time.process_time() - start, flush=True)\n"
        "batch.report(batch.failures, 'converted')\n"
    )
    result = subprocess.run([sys.executable, "-c", code, table], capture_output=True, text=True)
    grown, seconds = map(float, result.stdout.splitlines()[0].split())
    assert grown < 60  # MiB
    assert seconds < 10
    assert result.stdout.splitlines()[1:] == ["0 of 20000 converted"]
    assert len(result.stderr.splitlines()) < 60
    assert "and 19,980 more" in result.stderr


@pytest.mark.parametrize("output", ["src.wav", "./src.wav", "spk.wav"])
def test_read_batch_refuses_to_overwrite_what_is_read(tmp_path, output, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VcvaeError, match=r"is the (source|target); give another output"):
        read_batch(tmp_path / "src.wav", tmp_path / output, "to-x", [tmp_path / "spk.wav"])


def test_read_batch_refuses_the_root_as_a_folder_of_results(tmp_path):
    sf.write(tmp_path / "a.wav", speak("a", seconds=0.3), RATE)
    with pytest.raises(VcvaeError, match="root of the disk"):
        read_batch(tmp_path, tmp_path.joinpath("/"), "copy")


def test_failures_keep_the_first_and_drop_the_repeated_name():
    failures = Failures()
    for i in range(50):
        failures.add(f"{i}.wav", VcvaeError(f"{i}.wav: silent."))
    assert failures.count == 50
    assert failures.first == [(f"{i}.wav", "silent.") for i in range(20)]


def test_job_has_no_targets_by_default(tmp_path):
    assert Job(tmp_path, tmp_path).targets == ()


@pytest.mark.slow
def test_dash_is_standard_input_and_output(vcvae, voices):
    """A pipe through another process gives what the command writes from file to file."""
    command = ("vocode", "-", "--vocoder", "griffin-lim")
    source = (voices / "src.wav").read_bytes()
    result = subprocess.run([sys.executable, "-m", "vcvae", *command], input=source, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    assert vcvae("vocode", voices / "src.wav", "-o", voices / "copy.wav", "--vocoder", "griffin-lim")[0] == 0
    assert result.stdout == (voices / "copy.wav").read_bytes()
    assert sorted(path.name for path in voices.iterdir()) == ["copy.wav", "spk.wav", "src.wav"]


@pytest.mark.parametrize(("is_audio", "words"), [(True, "holds more than 0.03125 GiB; save it"), (False, "not audio")])
def test_standard_input_without_end_is_one_sentence(vcvae, voices, monkeypatch, is_audio, words):
    class Endless(io.RawIOBase):
        begin = (voices / "src.wav").read_bytes() if is_audio else b""

        def readinto(self, block):
            block[: len(self.begin)] = self.begin[: len(block)]
            self.begin = self.begin[len(block) :]
            return len(block)

        def readable(self):
            return True

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    monkeypatch.setattr(opening, "MAX_INPUT_BYTES", 2**25)
    code, out, err = vcvae("vocode", "-", "-o", voices / "a.wav")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("vcvae: /dev/stdin: ")
    assert words in err


@pytest.mark.parametrize(("content", "words"), [(b"", "holds nothing"), (b"no audio" * 99, "not audio")])
@pytest.mark.parametrize("command", [["vocode", "-"], ["convert", "src.wav", "--target", "-"], ["encode", "mel", "-"]])
def test_standard_input_that_is_no_audio_is_one_sentence(
    vcvae, voices, tiny_model, monkeypatch, command, content, words
):
    monkeypatch.chdir(voices)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    model = [] if command[0] == "vocode" else ["--model", tiny_model]
    code, out, err = vcvae(*command, "-o", "a.npy" if command[0] == "encode" else "a.wav", *model)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("vcvae: /dev/stdin: ")
    assert words in err
    assert sorted(path.name for path in voices.iterdir()) == ["spk.wav", "src.wav"]


@pytest.mark.parametrize(
    "command", ["convert - --target a.voice", "voice - -o b.voice", "anonymize -", "denoise - --model m"]
)
def test_standard_input_that_is_a_terminal_is_refused_before_work(vcvae, voices, monkeypatch, command):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.chdir(voices)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("vcvae.models.load_model", lambda model: pytest.fail("work has begun"))
    (voices / "a.voice").write_bytes(b"1")
    code, out, err = vcvae(*command.split())
    assert (code, out, err) == (2, "", "vcvae: /dev/stdin: a terminal; send audio to it: vcvae ... - < file.wav.\n")


def test_standard_input_gives_a_voice_as_its_file_does(vcvae, voices, tiny_model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((voices / "spk.wav").read_bytes())))
    options = ("--model", tiny_model, "--device", "cpu", "--steps", 0, "--name", "ann")
    assert vcvae("voice", "-", "-o", voices / "a.voice", *options)[0] == 0
    assert vcvae("voice", voices / "spk.wav", "-o", voices / "b.voice", *options)[0] == 0
    first, second = (Voice.load(voices / name) for name in ("a.voice", "b.voice"))
    assert torch.equal(first.reference.embedding, second.reference.embedding)
    assert torch.equal(first.reference.keys, second.reference.keys)
    assert first.card == second.card


def test_standard_input_has_a_name_of_its_own(vcvae, voices, tiny_model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((voices / "spk.wav").read_bytes())))
    options = ("--model", tiny_model, "--vocoder", "griffin-lim")
    code, out, err = vcvae("convert", voices / "src.wav", "--target", "-", *options)
    assert (code, out, err) == (0, f"{voices / 'src.to-stdin.wav'}\n", "")


def test_standard_input_is_anonymized_to_standard_output(voices, model_with_prior, vcvae, monkeypatch):
    class Output(io.StringIO):
        buffer = io.BytesIO()

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((voices / "src.wav").read_bytes())))
    monkeypatch.setattr(sys, "stdout", Output())
    options = ("--model", model_with_prior, "--vocoder", "griffin-lim", "--device", "cpu")
    code, out, err = vcvae("anonymize", "-", "--table", voices / "who.tsv", *options)
    assert (code, out, err) == (0, "", f"{voices / 'who.tsv'}: written; who has it knows the speakers\n")
    assert sf.info(io.BytesIO(Output.buffer.getvalue())).frames == sf.info(voices / "src.wav").frames


@pytest.mark.parametrize(
    "command",
    [
        *("decode - -o a.wav --model m", "encode mel src.wav -o -", "voice src.wav -o -", "voice --mix -=1 -o a.voice"),
        *("convert --pairs -", "convert a.wav --target b.wav --model -", "prepare folder - a", "prepare folder a -"),
        *("train -", "fit -", "run -", "info -", "export - a", "evaluate --cases -", "anonymize src.wav --key -"),
    ],
)
def test_dash_is_refused_where_no_audio_goes(vcvae, voices, monkeypatch, command):
    monkeypatch.chdir(voices)
    code, out, err = vcvae(*command.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("vcvae: -: neither standard input nor output is taken here")
    assert sorted(path.name for path in voices.iterdir()) == ["spk.wav", "src.wav"]


SPECIAL = ["", "fifo", "socket", "loop", "empty", "/dev/zero", "/dev/null", "/proc/self/mem", "a" * 300, "nul\0"]
COMMANDS = [
    ["convert", "@", "--target", "spk.wav"],
    ["convert", "src.wav", "--target", "@"],
    ["convert", "src.wav", "--target", "spk.wav", "--model", "@"],
    ["convert", "src.wav", "--target", "spk.wav", "-o", "@", "--force"],
    ["convert", "--pairs", "@"],
    ["voice", "@", "-o", "a.voice"],
    ["voice", "spk.wav", "-o", "@"],
    ["vocode", "@"],
    ["encode", "mel", "@", "-o", "a.npy"],
    ["encode", "mel", "src.wav", "-o", "@", "--force"],
    ["decode", "@", "-o", "a.wav", "--model", "."],
    ["decode", "a.npz", "-o", "@", "--model", ".", "--force"],
    ["denoise", "@", "--model", "."],
    ["prepare", "folder", "@", "prepared"],
    ["prepare", "folder", ".", "@"],
    ["train", "@"],
    ["fit", "@"],
    ["run", "@"],
    ["info", "@"],
    ["export", "@", "model"],
    ["export", "run", "@"],
    ["evaluate", "@"],
    ["evaluate", "--cases", "@"],
    ["evaluate", "--corpus", "@"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(words) for words in COMMANDS])
def test_argument_that_is_no_file_is_refused_in_one_sentence(vcvae, voices, monkeypatch, command):
    monkeypatch.chdir(voices)
    os.mkfifo("fifo")
    os.symlink("loop", "loop")
    open("empty", "w").close()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for special in SPECIAL:
            before = sorted(voices.rglob("*"))
            code, out, err = vcvae(*(special if word == "@" else word for word in command))
            assert (code, out, err.count("\n")) == (2, "", 1), special
            assert err.startswith("vcvae: ")
            assert sorted(voices.rglob("*")) == before


def test_run_reports_jobs_and_of_long_recordings_their_seconds(tmp_path):
    def work(job, progress):
        progress(30, 40 if job.source.name == "a" else 120, "converting, seconds")

    jobs = [Job(Path(name), tmp_path / name) for name in "ab"]
    files, part = [], []
    Batch(jobs, single=False).run(work, lambda *report: files.append(report), lambda *report: part.append(report))
    assert files == [(0, 2, "a"), (1, 2, "b")]
    assert part == [(0, 0, ""), (30, 120, "converting, seconds"), (0, 0, "")]
    single = []
    Batch(jobs[:1], single=True).run(work, lambda *report: single.append(report), pytest.fail)
    assert single == [(30, 40, "converting, seconds")]
