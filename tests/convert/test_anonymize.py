from pathlib import Path

import torch

from vcvae import Anonymizer, audio
from vcvae.convert import anonymize
from vcvae.convert.encoder import padded_mel

SOURCE = Path(__file__).parents[2] / "egs" / "convert" / "source.flac"


@torch.inference_mode()
def test_anonymized_speech_is_less_like_its_source_than_other_conversions_are(released, tmp_path):
    rate = released.mel_config.sample_rate
    source, anonymized, converted = (tmp_path / f"{name}.wav" for name in ("source", "anonymized", "converted"))
    audio.write(source, audio.read(SOURCE, rate)[: 4 * rate], rate)
    anonymizer = Anonymizer(released, key=bytes(32), apart=False)
    anonymizer.convert_file(source, "ann", [source], anonymized)
    released.convert_file(source, anonymizer.voice("ann", [source]), converted)

    def statistics_of(path):
        mel = padded_mel(released.spectrogram, audio.read(path, rate))
        return torch.nn.functional.normalize(released.speaker_net(mel)[0] - released.model.statistics.centre, dim=0)

    remains, would_remain = (float(statistics_of(path) @ statistics_of(source)) for path in (anonymized, converted))
    assert remains < would_remain - 0.01


def test_each_recording_is_converted_with_its_voice_refined_to_it(released, monkeypatch, tmp_path):
    refined, converted = [], []

    def refine(voice, source, *, steps, source_weight, progress):
        refined.append((voice, source, steps, source_weight))
        return f"for {source}"

    anonymizer = Anonymizer(released, key=bytes(32), refine_steps=4)
    voice = anonymizer.voice("ann", [SOURCE])
    monkeypatch.setattr(released, "refine", refine)
    monkeypatch.setattr(released, "convert_file", lambda _source, voice, *_, **__: converted.append(voice))
    anonymizer.convert_file(SOURCE, "ann", [SOURCE], tmp_path / "out.wav")
    assert (refined, converted) == ([(voice, SOURCE, 4, anonymize.SOURCE_WEIGHT)], [f"for {SOURCE}"])
