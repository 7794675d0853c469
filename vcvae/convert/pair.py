"""Conversion between one pair of speakers: waveform with the target's mean F0 → mel → joint-density GMM → vocoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vcvae import audio
from vcvae.convert.chunks import LoudnessMatch
from vcvae.convert.encoder import padded_mel
from vcvae.features.f0 import shift_pitch
from vcvae.features.mel import MelSpectrogram
from vcvae.models.classic.gmm_conversion import GMMConversion
from vcvae.vocoder import Vocoder


class PairConverter:
    """Converts recordings of one speaker to another: the pair that a `GMMConversion` was fitted to."""

    def __init__(self, model: GMMConversion, vocoder: Vocoder) -> None:
        """Raises VcvaeError where the two are made for different mels."""
        model.config.mel.require_equal(vocoder.mel_config, ours="the model", theirs="the vocoder")
        self.model = model.eval()
        self.vocoder = vocoder.for_predicted_mels().eval()
        self.spectrogram = MelSpectrogram(model.config.mel)

    @torch.inference_mode()
    def convert(self, source: str | Path, *, pitch_shift: float = 0.0) -> tuple[np.ndarray, int]:
        """The content of a file in the target's voice → float32 samples (samples,), and their rate in Hz.

        Raises:
            VcvaeError: a file that cannot be used.
        """
        config = self.model.config.mel
        samples = audio.read(source, config.sample_rate, min_samples=config.minimum_samples)
        shifted = shift_pitch(samples, self.model.octaves.item() + pitch_shift / 12, config.sample_rate)
        mel = padded_mel(self.spectrogram, shifted)[0]
        converted = self.vocoder(self.model.convert(mel)[None])[0].float().cpu().numpy()[: len(samples)]
        loudness = LoudnessMatch()
        loudness.add(samples, converted)
        return converted * loudness.gain, config.sample_rate

    def convert_file(
        self, source: str | Path, output: str | Path, *, pitch_shift: float = 0.0, force: bool = False
    ) -> None:
        """`convert` from file to file.

        Raises:
            VcvaeError: a file that cannot be used, or an output that cannot be written; then none is left behind.
        """
        audio.check_output(output, force)
        audio.write(output, *self.convert(source, pitch_shift=pitch_shift), force=force)
