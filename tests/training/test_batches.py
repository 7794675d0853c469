import logging
import multiprocessing
from itertools import islice

import numpy as np
import pytest
import torch

from tests.corpus import make_corpus
from vcvae.data.segments import Segments
from vcvae.errors import VcvaeError
from vcvae.training.batches import ResumableBatchSampler, SkipUnreadable, batches, first

CPU = torch.device("cpu")


@pytest.fixture
def corpus(tmp_path):
    return make_corpus(tmp_path, speakers=2)


@pytest.fixture
def data(corpus):
    return Segments(corpus, segment=8192, sample_rate=22050, speeds=(1.0, 1.125))


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])


def scramble(file):
    file.write_bytes(b"nothing" * 99)


def test_no_example_comes_twice_or_is_left_out_whatever_the_number_of_processes():
    seen, first = [], 0
    for processes, size, steps in ((1, 4, 3), (3, 2, 5), (2, 5, 2), (8, 1, 4)):
        for process in range(processes):
            for numbers in islice(ResumableBatchSampler(size, first, process=process, processes=processes), steps):
                seen += numbers
        first += processes * size * steps
    assert sorted(seen) == list(range(first))


def test_what_can_be_read_is_as_it_was(data):
    example, steady = data[3], SkipUnreadable(data)[3]
    assert example["samples"].shape == (2, 8192)
    for name, value in example.items():
        np.testing.assert_array_equal(value, steady[name])


@pytest.mark.parametrize("spoil", [truncate, scramble])
def test_for_a_file_that_cannot_be_read_another_example_is_drawn(data, corpus, caplog, spoil):
    before = [data[n] for n in range(12)]
    file = sorted(corpus.parent.glob("audio/**/*.flac"))[0]
    spoil(file)
    with caplog.at_level(logging.WARNING):
        after, again = ([steady[n] for n in range(12)] for steady in (SkipUnreadable(data), SkipUnreadable(data)))
    told = [record.message for record in caplog.records]
    assert all("/".join(file.parts[-3:]) in message for message in told)
    assert all("Other examples take the place" in message for message in told)
    assert all(told.count(message) == 2 for message in told)  # once a reader, however often the file is met
    changed = [n for n in range(12) if not np.array_equal(before[n]["samples"], after[n]["samples"])]
    assert 0 < len(changed) < 12
    for a, b in zip(after, again, strict=True):
        np.testing.assert_array_equal(a["samples"], b["samples"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_disk_that_is_gone_is_one_sentence(data, corpus, workers):
    for file in corpus.parent.glob("audio/**/*.flac"):
        file.unlink()
    with pytest.raises(VcvaeError, match=r"^/.*flac: cannot be read .*Nor could 19 other") as raised:
        next(batches(data, ResumableBatchSampler(2, 0), workers=workers, device=CPU))
    assert "\n" not in str(raised.value)
    assert not multiprocessing.active_children()


def test_batches_do_not_depend_on_who_reads_them(data):
    first, second = (
        list(islice(batches(data, ResumableBatchSampler(2, 6), workers=workers, device=CPU), 3)) for workers in (0, 1)
    )
    for a, b in zip(first, second, strict=True):
        assert a["samples"].shape == (2, 2, 8192)
        for name in a:
            assert torch.equal(a[name], b[name])


def test_reading_draws_nothing_within_a_step(data):
    reading = batches(data, ResumableBatchSampler(2, 0), workers=0, device=CPU)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(reading)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_examples_are_always_the_same(data):
    found = list(first(data, 4, size=2, device=CPU))
    assert [batch["samples"].shape for batch in found] == [(2, 2, 8192)] * 2
    np.testing.assert_array_equal(found[1]["samples"][1], data[3]["samples"])
