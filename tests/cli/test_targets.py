from pathlib import Path

import pytest

from vcvae.cli.batch import Job
from vcvae.cli.targets import ToTargets
from vcvae.defaults import STDIN


class Recorder:
    """Stands for a converter and for the learning of voices, and notes what each voice is learned with."""

    def __init__(self):
        self.learned = []
        self.refined = []
        self.converted = []

    def learn(self, converter, recordings, name, sources, **_options):
        self.learned.append((name, list(recordings), sources))
        return name

    def convert_file(self, source, voice, output, **_options):
        self.converted.append(voice)

    def refine(self, voice, source, *, steps, progress):
        self.refined.append((voice, source, steps))
        return f"{voice} for {source}"

    def find_readable(self, target):
        return [target]


@pytest.fixture
def recorder():
    return Recorder()


def test_voice_is_learned_with_all_sources_that_are_converted_to_it(recorder):
    ann, ben = (Path("ann.wav"),), (Path("ben.wav"),)
    jobs = [Job(Path(name), Path("out.wav"), targets) for name, targets in (("1", ann), ("2", ben), ("3", ann))]
    jobs.append(Job(STDIN, Path("out.wav"), ben))  # which can be read only once
    converter = ToTargets(recorder, jobs, recorder, recorder)
    for i in (0, 2, 1, 3):
        converter.convert_file(jobs[i], pitch_shift=0, force=False)
    assert recorder.learned == [
        ("ann", [*ann], [Path("1"), Path("3")]),
        ("ben", [*ben], [Path("2")]),
    ]


def test_voice_is_refined_to_each_source(recorder):
    jobs = [Job(Path(name), Path("out.wav"), (Path("ann.wav"),)) for name in "12"]
    converter = ToTargets(recorder, jobs, recorder, recorder, refine_steps=3)
    for job in jobs:
        converter.convert_file(job, pitch_shift=0, force=False)
    assert len(recorder.learned) == 1
    assert recorder.refined == [("ann", Path("1"), 3), ("ann", Path("2"), 3)]
    assert recorder.converted == ["ann for 1", "ann for 2"]
