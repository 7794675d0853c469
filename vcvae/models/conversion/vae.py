"""The disentangling variational auto-encoder: content and speaker in two latents.

A mel goes through three encoders (`encoders.py`): content (instance-normalized, a slow and narrow Gaussian), speaker
(one embedding, and a feature for each frame) and F0 (a contour). The decoder (`decoder.py`) reconstructs the mel from
their outputs. To convert, it takes the speaker of another utterance, and the F0 contour transferred to that speaker's
F0 statistics. Instance normalization to remove the speaker and AdaIN to add another one follow AdaIN-VC (Chou et al.
2019, arXiv:1904.05742). All frame rates are those of the default mel, 86 frames per second.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour, F0Statistics
from vcvae.models.conversion.config import DisentanglingConfig
from vcvae.models.conversion.decoder import Decoder
from vcvae.models.conversion.encoders import ContentEncoder, F0Encoder, SpeakerEncoder, StatisticsProjection
from vcvae.models.conversion.modulation import EnvelopeModulation
from vcvae.models.conversion.reference import SpeakerReference
from vcvae.models.conversion.voice import Voice
from vcvae.models.hub import PretrainedModel
from vcvae.models.layers import Level, frame_mask


class DisentanglingVAE(PretrainedModel, config=DisentanglingConfig):
    """The conversion model: the three encoders and the decoder. The method `convert` is the whole conversion.

    Example:
        >>> import torch
        >>> model = DisentanglingVAE().eval()
        >>> voice = model.voice(torch.randn(1, 80, 300))
        >>> model.convert(torch.randn(1, 80, 101), voice).shape
        torch.Size([1, 80, 101])
    """

    def __init__(self, config: DisentanglingConfig | None = None) -> None:
        super().__init__()
        self.config = config or DisentanglingConfig()
        self.level = Level(self.config.encoder_bands)
        self.decoded_level = Level(self.config.encoder_bands)
        self.content = ContentEncoder(self.config)
        self.speaker = SpeakerEncoder(self.config)
        self.f0 = F0Encoder(self.config)
        self.statistics = None
        if self.config.speaker_statistics:
            self.statistics = StatisticsProjection(self.config.speaker_statistics, self.config.statistics_latent)
        self.decoder = Decoder(self.config)

    def voice(
        self,
        mel: Tensor,
        lengths: Tensor | None = None,
        *,
        valid_bands: Tensor | None = None,
        statistics: Tensor | None = None,
    ) -> Voice:
        """The voices of mels (batch, n_mels, frames), one for each utterance; `.average()` joins them.

        Args:
            lengths: (batch,) in frames; None where nothing is padded.
            valid_bands: (batch, n_mels), 1 for the bands within the recording's bandwidth
                (`vcvae.features.mel.valid_band_mask`); None for all.
            statistics: (batch, speaker_statistics) of `SpeakerSimilarityNet`, for a model that takes them; it makes do
                without.
        """
        content = self.content(mel, lengths).mean
        reference = self.reference(mel, content, lengths, valid_bands=valid_bands, statistics=statistics)
        if valid_bands is None:
            valid_bands = torch.ones_like(mel[..., 0])
        return Voice(reference, self.f0(mel, lengths).statistics(), valid_bands)

    def reference(
        self,
        mel: Tensor,
        content: Tensor,
        lengths: Tensor | None = None,
        *,
        valid_bands: Tensor | None = None,
        statistics: Tensor | None = None,
    ) -> SpeakerReference:
        """The speaker reference of mels (batch, n_mels, frames) and their content (batch, latent, ceil(frames / 4)).

        The options are those of `voice`.
        """
        values, mask = self.speaker.frames(mel, lengths, valid_bands=valid_bands)
        embedding = self.speaker.embed_frames(values, mask)
        if mask is None:
            mask = torch.ones_like(values[..., :1])
        projected = mel.new_zeros(len(mel), 0)
        if self.statistics is not None:
            projected = self.statistics(
                self.statistics.centre.expand(len(mel), -1) if statistics is None else statistics
            )
        return SpeakerReference(embedding, projected, content.mT, values, mask)

    def centred_embedding(self, voice: Voice) -> Tensor:
        """The speaker embeddings of voices, centred as in `SpeakerEncoder.centred`: (batch, speaker_latent)."""
        return self.speaker.centred(voice.reference.embedding)

    def modulation(
        self, mel: Tensor, lengths: Tensor | None = None, *, cutoff: float | None = None
    ) -> EnvelopeModulation:
        """The envelope modulation of mels (batch, n_mels, frames) above a cutoff in Hz, by default the model's."""
        mask = frame_mask(lengths, mel.shape[2])
        normalized = mel - self.level(mel, mask)
        cutoff = (cutoff or self.config.modulation_cutoff) / self.config.mel.frame_rate
        return EnvelopeModulation.from_mel(normalized, mask, cutoff=cutoff)

    def target_f0(
        self,
        mel: Tensor,
        voice: Voice,
        *,
        lengths: Tensor | None = None,
        f0_statistics: F0Statistics | None = None,
        pitch_shift: float = 0.0,
    ) -> F0Contour:
        """The F0 contour of `mel` (batch, n_mels, frames), transferred to `voice`: (batch, ceil(frames / 2)).

        Args:
            f0_statistics: of the whole source, where `mel` is a part of it; by default those of `mel`.
            pitch_shift: semitones, added after the transfer.
        """
        f0 = self.f0(mel, lengths)
        transferred = f0.transfer(f0_statistics or f0.statistics(), voice.f0_statistics)
        return transferred.shift(pitch_shift / 12).within_range()

    def decoder_for(self, voice: Voice) -> Decoder:
        """The decoder with what `voice` has learned; the model's own, where that is nothing."""
        return voice.learned.applied_to(self.decoder) if voice.learned else self.decoder

    def check_voice(self, voice: Voice, fingerprint: str) -> None:
        """Check that `voice` is made for this model, of this fingerprint.

        Raises:
            VcvaeError: it is for another one, or damaged.
        """
        name = voice.path or "the voice"
        c = self.config
        latent = c.statistics_latent if c.speaker_statistics else 0
        sizes = (c.speaker_latent, latent, c.content_latent, c.speaker_channels, c.mel.n_mels)
        if voice.sizes != sizes or voice.fingerprint not in ("", fingerprint):
            raise VcvaeError(
                f"{name}: made for another model ({voice.fingerprint or 'unknown'}, not {fingerprint}); make it "
                f"anew with the model that you convert with: vcvae voice RECORDINGS -o {voice.path or 'FILE.voice'}"
            )
        try:
            self.decoder_for(voice)
        except ValueError as error:
            raise VcvaeError(f"{name}: damaged ({error}); make it anew: vcvae voice RECORDINGS -o {name}") from None

    def convert(
        self,
        mel: Tensor,
        voice: Voice,
        *,
        lengths: Tensor | None = None,
        target_f0: F0Contour | None = None,
        asr_features: Tensor | None = None,
    ) -> Tensor:
        """Convert `mel` (batch, n_mels, frames) to `voice` (one, or one for each item) → like `mel`.

        What the voice has learned is applied to the decoder. `target_f0` is the F0 contour of the conversion, (batch,
        ceil(frames / 2)); by default that of the method `target_f0`. `asr_features` are those of the source, as the
        content encoder takes them.
        """
        decoded = self.decode_content(mel, voice, lengths=lengths, target_f0=target_f0, asr_features=asr_features)
        mask = frame_mask(lengths, mel.shape[2])
        # The conversion gets the level of its source, whatever the voice.
        gain = self.level(mel, mask) - self.decoded_level(decoded, mask)
        log_floor = math.log(self.config.mel.floor)
        converted = (decoded + gain).clamp(min=log_floor)
        return converted if mask is None else converted.masked_fill(mask.transpose(1, 2) == 0, log_floor)

    def decode_content(
        self,
        mel: Tensor,
        voice: Voice,
        *,
        lengths: Tensor | None = None,
        target_f0: F0Contour | None = None,
        asr_features: Tensor | None = None,
    ) -> Tensor:
        """`convert` at the decoder's own level: without the level of the source, and without a floor."""
        return self.decoder_for(voice)(
            self.content(mel, lengths, asr_features=asr_features).mean,
            voice.reference.expand(len(mel)),
            target_f0 or self.target_f0(mel, voice, lengths=lengths),
            frames=mel.shape[2],
            lengths=lengths,
            modulation=self.modulation(mel, lengths),
            postfilter=True,
        )
