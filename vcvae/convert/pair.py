"""Conversion between one pair of speakers: waveform with the target's mean F0 → mel → joint-density GMM → vocoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from vcvae import audio
from vcvae.convert import chunks
from vcvae.convert.encoder import padded_mel, recording_blocks
from vcvae.convert.level import match_level
from vcvae.features.f0 import shift_pitch
from vcvae.features.mel import MelSpectrogram
from vcvae.models.classic.gmm_conversion import GMMConversion
from vcvae.progress import Progress, no_progress
from vcvae.torch_state import own_torch_state
from vcvae.vocoder import Vocoder


class PairConverter:
    """Converts recordings of one speaker to another: the pair that a `GMMConversion` was fitted to."""

    def __init__(self, model: GMMConversion, vocoder: Vocoder) -> None:
        """Raises VcvaeError where the two are made for different mels."""
        model.config.mel.require_equal(vocoder.mel_config, ours="the model", theirs="the vocoder")
        self.model = model.eval()
        self.vocoder = vocoder.for_predicted_mels().eval()
        self.spectrogram = MelSpectrogram(model.config.mel)

    @own_torch_state()
    def convert(self, source: str | Path, *, pitch_shift: float = 0.0) -> tuple[np.ndarray, int]:
        """The content of a file in the target's voice → float32 samples (samples,), and their rate in Hz.

        Raises:
            VcvaeError: a file that cannot be used.
        """
        pieces = list(self._convert_pieces(source, pitch_shift, no_progress))
        return np.concatenate(pieces), self.model.config.mel.sample_rate

    @own_torch_state()
    def convert_file(
        self,
        source: str | Path,
        output: str | Path,
        *,
        pitch_shift: float = 0.0,
        force: bool = False,
        progress: Progress = no_progress,
    ) -> None:
        """`convert` from file to file, piece by piece, each of which `progress` gets, in memory that does not grow.

        Raises:
            VcvaeError: a file that cannot be used, or an output that cannot be written; then none is left behind.
        """
        rate = self.model.config.mel.sample_rate
        audio.write_pieces(output, self._convert_pieces(source, pitch_shift, progress), rate, force=force)

    @torch.inference_mode()
    def _convert_pieces(self, source: str | Path, pitch_shift: float, progress: Progress) -> Iterator[np.ndarray]:
        config = self.model.config.mel
        octaves = self.model.octaves.item() + pitch_shift / 12

        def convert_piece(samples: np.ndarray) -> np.ndarray:
            mel = padded_mel(self.spectrogram, shift_pitch(samples, octaves, config.sample_rate))[0]
            converted = self.vocoder(self.model.convert(mel)[None])[0].float().cpu().numpy()[: len(samples)]
            return match_level(converted, samples, config.sample_rate)

        blocks = recording_blocks(source, config, progress=progress, description="converting")
        yield from chunks.process_pieces(blocks, convert_piece, hop=config.hop)
