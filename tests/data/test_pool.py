"""Processes that work for another one end with it, also where it is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from vcvae.data.pool import map_in_processes
from vcvae.errors import VcvaeError

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="POSIX signals")

WAITING = """
import os, sys, time
from vcvae.data.pool import map_in_processes

def wait(_):
    os.write(1, b"at work\\n")  # at once: two processes share the pipe
    time.sleep(600)

list(map_in_processes(wait, range(2), jobs=2))
"""
READING = """
import os, sys, time, torch
from vcvae.training.batches import ResumableBatchSampler, batches

class Data(torch.utils.data.Dataset):
    def __getitem__(self, n):
        if n > 8:
            os.write(1, b"at work\\n")  # at once: two processes share the pipe
            time.sleep(600)
        return {"n": torch.tensor(n)}

for _ in batches(Data(), ResumableBatchSampler(2, 0), workers=2, device=torch.device("cpu")):
    pass
"""


def negative(value):
    return -value


def die(value):
    os.kill(os.getpid(), signal.SIGKILL)


def members(group):
    """The processes of a process group that still run."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [pid for pid, pgid, state in rows if int(pgid) == group and not state.startswith("Z")]


def test_map_in_processes_keeps_the_order():
    assert list(map_in_processes(negative, range(20), jobs=2, chunk=3)) == [-n for n in range(20)]


def test_map_in_processes_names_a_killed_process():
    with pytest.raises(VcvaeError, match="--jobs: a process was killed"):
        list(map_in_processes(die, range(4), jobs=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "number"),
    [(WAITING, signal.SIGKILL), (WAITING, signal.SIGTERM), (READING, signal.SIGKILL)],
    ids=["pool killed", "pool terminated", "readers killed"],
)
def test_processes_end_with_their_parent(program, number):
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(2):
            assert parent.stdout.readline() == b"at work\n"
        assert len(members(parent.pid)) >= 3
        os.kill(parent.pid, number)
        parent.wait(10)
        end = time.monotonic() + 10
        while members(parent.pid) and time.monotonic() < end:
            time.sleep(0.05)
        assert members(parent.pid) == []
    finally:
        if members(parent.pid):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.stdout.close()
