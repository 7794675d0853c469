import logging
import multiprocessing
from itertools import islice

import numpy as np
import pytest
import torch

from tests.corpus import make_corpus
from vcvae.data.segments import Segments
from vcvae.errors import VcvaeError
from vcvae.training.batches import ResumableBatchSampler, SkipUnreadable, batches, first_batches

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


def test_batch_sampler_repeats_and_omits_no_example_with_any_number_of_processes():
    used, first = [], 0
    for processes, size, steps in ((1, 4, 3), (3, 2, 5), (2, 5, 2), (8, 1, 4)):
        for process in range(processes):
            for numbers in islice(ResumableBatchSampler(size, first, process=process, processes=processes), steps):
                used += numbers
        first += processes * size * steps
    assert sorted(used) == list(range(first))


def test_skip_unreadable_returns_readable_examples_unchanged(data):
    example, readable = data[3], SkipUnreadable(data)[3]
    assert example["samples"].shape == (2, 8192)
    for name, value in example.items():
        np.testing.assert_array_equal(value, readable[name])


@pytest.mark.parametrize("spoil", [truncate, scramble])
def test_skip_unreadable_replaces_unreadable_examples_reproducibly(data, corpus, caplog, spoil):
    before = [data[n] for n in range(12)]
    file = sorted(corpus.parent.glob("audio/**/*.flac"))[0]
    spoil(file)
    with caplog.at_level(logging.WARNING):
        first, second = SkipUnreadable(data), SkipUnreadable(data)
        after = [first[n] for n in range(12)]
        again = [second[n] for n in range(12)]
    warnings = [record.message for record in caplog.records]
    assert all("/".join(file.parts[-3:]) in message for message in warnings)
    assert all("Other examples are used in its place" in message for message in warnings)
    assert all(warnings.count(message) == 2 for message in warnings)  # once for each dataset
    changed = [n for n in range(12) if not np.array_equal(before[n]["samples"], after[n]["samples"])]
    assert 0 < len(changed) < 12
    for a, b in zip(after, again, strict=True):
        np.testing.assert_array_equal(a["samples"], b["samples"])


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_raise_when_no_file_can_be_read(data, corpus, workers):
    for file in corpus.parent.glob("audio/**/*.flac"):
        file.unlink()
    with pytest.raises(VcvaeError, match=r"^/.*flac: cannot be read .*19 other examples could not be read") as raised:
        next(batches(data, ResumableBatchSampler(2, 0), workers=workers, device=CPU))
    assert "\n" not in str(raised.value)
    assert not multiprocessing.active_children()


def test_batches_do_not_depend_on_workers(data):
    first = list(islice(batches(data, ResumableBatchSampler(2, 6), workers=0, device=CPU), 3))
    second = list(islice(batches(data, ResumableBatchSampler(2, 6), workers=1, device=CPU), 3))
    for a, b in zip(first, second, strict=True):
        assert a["samples"].shape == (2, 2, 8192)
        for name in a:
            assert torch.equal(a[name], b[name])


def test_batches_draw_no_random_numbers_within_a_step(data):
    reading = batches(data, ResumableBatchSampler(2, 0), workers=0, device=CPU)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(reading)
    assert torch.equal(torch.get_rng_state(), before)


def test_first_batches_are_the_first_examples(data):
    first = list(first_batches(data, 4, size=2, device=CPU))
    assert [batch["samples"].shape for batch in first] == [(2, 2, 8192)] * 2
    np.testing.assert_array_equal(first[1]["samples"][1], data[3]["samples"])
