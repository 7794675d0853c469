from pathlib import Path

import torch

from vcvae import Anonymizer, audio
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
