"""What is written appears complete; what a killed process was writing is removed by the next one."""

import os
import signal
import subprocess
import sys

import pytest

from vcvae import errors
from vcvae.errors import VcvaeError, completed, remove_unfinished, replacing, temporary_folder

WRITING = """
import os, sys, time
from vcvae.errors import completed, temporary_folder
with completed(sys.argv[1]) as part, temporary_folder(os.path.dirname(sys.argv[1])) as folder:
    part.write_bytes(b"half")
    (folder / "a").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_completed_file_replaces_the_one_before(tmp_path):
    path = tmp_path / "a.wav"
    for content in (b"1", b"2"):
        with completed(path) as part:
            part.write_bytes(content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_completed_leaves_nothing_after_an_error(tmp_path):
    def write(block, error):
        with block(tmp_path / "a") as part:
            part.write_bytes(b"1") if block is completed else part.write(b"1")
            raise error

    with pytest.raises(ValueError, match="stop"):
        write(completed, ValueError("stop"))
    with pytest.raises(VcvaeError, match=r"a: cannot be written \(no room\)"):
        write(replacing, OSError("no room"))
    assert not list(tmp_path.iterdir())


def test_replacing_takes_the_longest_name_of_a_file(tmp_path):
    path = tmp_path / ("x" * 255)
    with replacing(path) as file:
        file.write(b"1")
    assert path.read_bytes() == b"1"


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_remove_unfinished_removes_what_killed_processes_left_alone(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WRITING, str(tmp_path / "a")], stdout=subprocess.PIPE)
    with process:
        process.stdout.readline()
        with completed(tmp_path / "b") as part:
            part.write_bytes(b"1")
            assert len(list(tmp_path.iterdir())) == 3
            remove_unfinished(tmp_path)  # all are being written
            assert len(list(tmp_path.iterdir())) == 3
            process.send_signal(signal.SIGKILL)
            process.wait()
            remove_unfinished(tmp_path)
            assert list(tmp_path.iterdir()) == [part]
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    remove_unfinished(tmp_path / "absent")


def test_completed_removes_what_was_left_in_its_folder(tmp_path):
    for name in ("a", "b"):
        left = tmp_path / f"{errors._unfinished_of_this_machine()}{os.getpid()}-00000000-1{errors.UNFINISHED}"
        left.write_bytes(b"half")
        with completed(tmp_path / name) as part:
            part.write_bytes(b"1")
        assert left.exists() == (name == "b")  # it looks there once


def test_remove_unfinished_removes_what_an_earlier_process_of_the_same_number_left(tmp_path):
    with temporary_folder(tmp_path) as ours:
        left = tmp_path / ours.name.replace(errors._token, "00000000")
        left.mkdir()
        remove_unfinished(tmp_path)
        assert list(tmp_path.iterdir()) == [ours]


def test_remove_unfinished_follows_no_link(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_bytes(b"1")
    link = tmp_path / f"{errors._unfinished_of_this_machine()}{os.getpid()}-00000000-1{errors.UNFINISHED}"
    link.symlink_to(tmp_path / "kept")
    remove_unfinished(tmp_path)
    assert not link.is_symlink()
    assert (tmp_path / "kept" / "a").exists()


def test_temporary_folder_is_removed_after_an_error(tmp_path):
    def work():
        with temporary_folder(tmp_path) as folder:
            (folder / "a" / "b").mkdir(parents=True)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        work()
    assert not list(tmp_path.iterdir())
