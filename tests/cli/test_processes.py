"""A batch that several processes share: who gets which conversions, and one report; by a real launcher, too."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile as sf

from tests.launch import LAUNCH, ROOT, TWO_CPUS
from tests.synthetic import RATE, speak
from vcvae.cli.batch import Batch, Failures, Job
from vcvae.cli.processes import Processes
from vcvae.environment import LAUNCHED, launched_processes
from vcvae.errors import VcvaeError


@pytest.fixture
def several(monkeypatch):
    """A function that gives each of so many processes."""

    def make(count):
        processes = []
        for index in range(count):
            process = Processes("cpu")
            process.count, process.index = count, index
            processes.append(process)
        return processes

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return make


def jobs(targets):
    """A job for each target's name, in the order of the text."""
    return [Job(Path(f"{n}.wav"), Path(f"{n}.out.wav"), (Path(target),)) for n, target in enumerate(targets)]


def shares(processes, targets, **options):
    """The targets that each process gets, in order."""
    parts = []
    for process in processes:
        batch = Batch(jobs(targets), single=False)
        batch.share(process, **options)
        parts.append([job.targets[0].name for job in batch.jobs])
        if process.index == 0:
            assert batch.total == len(targets)
    return parts


@pytest.mark.parametrize("count", ["x", "0", "-1", "2", "99999999999999999999", "½"])
def test_processes_refuse_variables_that_no_launcher_sets(monkeypatch, count):
    monkeypatch.setenv("WORLD_SIZE", count)
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(VcvaeError, match=rf"^WORLD_SIZE={count}: .*unset it, or use accelerate launch"):
        Processes("cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": "x"}, "^RANK=x: .* no number from 0 to 1;"),
        ({"RANK": "2"}, "^RANK=2: .* no number from 0 to 1;"),
        ({"LOCAL_RANK": "２"}, "^LOCAL_RANK=２: .* no number from 0 to 1;"),
        ({"MASTER_PORT": "99999"}, "^MASTER_PORT=99999: .* no number from 0 to 65535;"),
        ({"MASTER_ADDR": "a..b"}, "^MASTER_ADDR=a..b: .* no machine of that name is found;"),
        ({"MASTER_ADDR": ""}, "^WORLD_SIZE=2: .* without MASTER_ADDR;"),
        ({"WORLD_SIZE": ""}, "^LOCAL_RANK=0: .* without WORLD_SIZE;"),
        ({"WORLD_SIZE": "", "LOCAL_RANK": "", "RANK": "x"}, "^RANK=x: "),
    ],
)
def test_launched_processes_name_the_variable_that_is_wrong(monkeypatch, change, message):
    whole = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in (whole | change).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(VcvaeError, match=message):
        launched_processes()


def test_launched_processes_are_as_many_as_the_launcher_says(monkeypatch):
    for name, value in zip(LAUNCHED, ("2", "1", "1", "127.0.0.1", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    assert launched_processes() == 2
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name)
    assert launched_processes() == 1


def test_processes_without_a_launcher_are_one(several):
    with Processes("cpu") as process:
        assert (process.count, process.is_first) == (1, True)
        assert process.from_first(lambda: 3) == 3
        assert process.gather("a") == ["a"]
    assert shares(several(1), ["a", "b", "a", "c", "b"], learn=True) == [["a", "a", "b", "b", "c"]]


def test_processes_share_by_target_where_voices_are_learned(several):
    parts = shares(several(2), ["a", "b", "a", "c", "a", "d"], learn=True)
    assert parts == [["a", "a", "a", "c"], ["b", "d"]]
    assert shares(several(3), ["a", "a"], learn=True) == [["a", "a"], [], []]


@pytest.mark.parametrize("learn", [True, False])
def test_processes_share_evenly_where_nothing_is_learned(several, learn):
    targets = ["a.voice" if learn else "a"] * 7
    parts = shares(several(3), targets, learn=learn)
    assert sorted(map(len, parts)) == [2, 2, 3]


def test_processes_report_each_failure_once(several):
    first, second = several(2)
    batches = []
    for process in (first, second):
        batch = Batch(jobs("ab"), single=False)
        batch.failures.add("table", "found by the first before it shared")
        batch.share(process, learn=True)
        batch.failures.add(process.index, "failed")
        batches.append(batch)
    failures = Failures.join([batch.failures for batch in batches])
    assert (failures.count, [what for what, _ in failures.first]) == (3, ["table", "0", "1"])


def test_batch_leaves_out_what_is_finished(tmp_path):
    outputs = [tmp_path / "done.wav", tmp_path / "todo.wav"]
    for name in ("src.wav", "spk.wav", "done.wav"):
        sf.write(tmp_path / name, speak("a", seconds=0.3), RATE)
    table = [Job(tmp_path / "src.wav", output, (tmp_path / "spk.wav",)) for output in outputs]
    batch = Batch(table, single=False)
    batch.check_output(force=False)
    assert ([job.output for job in batch.jobs], batch.finished, batch.failures.count) == (outputs[1:], 1, 0)
    batch = Batch(table, single=False)
    batch.check_output(force=True)
    assert (len(batch.jobs), batch.finished) == (2, 0)


@pytest.mark.slow
def test_two_processes_convert_a_table_and_skip_what_is_finished(vcvae, voices, tiny_model):
    lines, options = [], ("--model", tiny_model, "--vocoder", "griffin-lim", "--device", "cpu", "--quick")
    for number in range(5):
        sf.write(voices / f"{number}.wav", speak("aiueo", seconds=0.5, seed=number), RATE)
        lines.append(f"{voices / f'{number}.wav'}\t{voices / 'spk.wav'}\t{voices / 'OUT' / f'{number}.wav'}\n")
    (voices / "broken.wav").write_text("no audio")
    lines.insert(1, f"{voices / 'broken.wav'}\t{voices / 'spk.wav'}\t{voices / 'OUT' / 'broken.wav'}\n")
    for folder in ("alone", "shared"):
        (voices / f"{folder}.tsv").write_text("".join(lines).replace("OUT", folder))
    assert vcvae("convert", "--pairs", voices / "alone.tsv", *options)[:2] == (1, "5 of 6 converted\n")

    def share():
        command = [*LAUNCH, *TWO_CPUS, "-m", "vcvae", "convert", "--pairs", voices / "shared.tsv", *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=300)
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    first = share()
    assert (first.code, first.out) == (1, "5 of 6 converted\n")
    assert first.err.count("audio") == 1  # one report, of one failure
    for number in range(5):
        alone = (voices / "alone" / f"{number}.wav").read_bytes()
        assert (voices / "shared" / f"{number}.wav").read_bytes() == alone
    (voices / "shared" / "3.wav").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in (voices / "shared").iterdir()}
    again = share()
    assert (again.code, again.out) == (1, "5 of 6 converted, 4 of them before; --force makes those again\n")
    assert {path.name: path.stat().st_mtime_ns for path in (voices / "shared").iterdir()}.items() > times.items()
