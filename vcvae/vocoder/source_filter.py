"""The released vocoder: a source-filter model whose filters a network predicts from the mel.

The sources are pulses at F0, aspiration noise in phase with the pulses, and stationary noise. Networks at the mel's
frame rate predict F0, unless it is given, and one filter per source and hop, as short-time spectra (`filters.py`). The
spectra of the sources are multiplied by the filters, summed, and transformed back.

The ConvNeXt backbone and the inverse transform follow Vocos (Siuzdak 2023, arXiv:2306.00814) and iSTFTNet (Kaneko et
al. 2022, arXiv:2203.02395); the sources follow NSF (Wang et al. 2019, arXiv:1904.12088) and DDSP (Engel et al. 2020,
arXiv:2001.04643): with given pulses, the network need not learn the phase relations of a hundred harmonics.

Post-processing corrects the result towards the mel. For mels of recordings it is Griffin & Lim's iteration (1984) on
the magnitudes, eight rounds. Predicted mels may not be consistent with any waveform, and Griffin-Lim corrections
towards them add roughness: for these only the slow part of the gain error is corrected, in the filters, which leaves
the phases as they are, and the gains of the pulses are smoothed over time at low frequencies, where single harmonics
are resolved.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.features.stft import inverse, toward_mel, transform
from vcvae.models.f0_classifier import F0Classifier
from vcvae.models.hub import PretrainedModel
from vcvae.vocoder import excitation
from vcvae.vocoder.base import Vocoder
from vcvae.vocoder.filters import CORRECTION_FRAMES, Backbone, FilterHead, Filters

NOISE_SAMPLES = 2**17  # the noise repeats after these: 6 s
CHUNK_FRAMES = 2048  # mel frames (24 s) that are synthesized at once, so that memory stays bounded
# Mean and standard deviation by which this network's log-mel input, which keeps its level, is standardized.
INPUT_MEAN, INPUT_STD = -5.0, 2.0

# Complex spectra of pulses, aspiration and noise, with as many frames: (batch, …, bins) each.
SourceSpectra = tuple[Tensor, Tensor, Tensor]


class PostProcessing(Config):
    """Corrections of the synthesized waveform towards the mel. The defaults are for mels of recordings."""

    gain_smoothing: int = Field(
        1, gt=0, le=255, description="filters over which the pulses' gains and phases are averaged; odd"
    )
    gain_iterations: int = Field(
        0, ge=0, le=64, description="corrections of the filters' gains by the slow part of the mel error"
    )
    griffin_lim_iterations: int = Field(
        8, ge=0, le=256, description="Griffin-Lim iterations towards the mel, at the end"
    )

    @model_validator(mode="after")
    def _holds_together(self) -> PostProcessing:
        if self.gain_smoothing % 2 == 0:
            raise ValueError("gain_smoothing must be odd")
        return self


class SourceFilterVocoderConfig(Config):
    """Sizes of the source-filter vocoder. The defaults have 3.8 M parameters."""

    mel: MelConfig = MelConfig()
    channels: int = Field(256, gt=0, le=1024, description="width of the backbone")
    blocks: int = Field(7, ge=0, le=64, description="ConvNeXt blocks")
    expansion: int = Field(3, gt=0, le=16, description="width within a block, as a multiple of the backbone's")
    kernel: int = Field(7, gt=0, le=63, description="frames; an odd number")
    f0_channels: int = Field(128, gt=0, le=1024, description="width of the F0 classifier")
    f0_blocks: int = Field(4, ge=0, le=64, description="its residual blocks, at half the frame rate")
    n_fft: int = Field(512, ge=16, le=8192, description="samples; window and FFT length of the filters")
    hop: int = Field(128, gt=0, le=4096, description="samples between two filters; it divides n_fft and the mel's hop")
    ground_truth: PostProcessing = PostProcessing()
    predicted: PostProcessing = PostProcessing(gain_smoothing=3, gain_iterations=1, griffin_lim_iterations=0)

    @model_validator(mode="after")
    def _holds_together(self) -> SourceFilterVocoderConfig:
        if self.kernel % 2 == 0:
            raise ValueError("kernel must be odd")
        if self.n_fft % self.hop or self.mel.hop % self.hop:
            raise ValueError("hop must divide n_fft and the mel's hop")
        if self.n_fft % 2 or self.hop % 2 or self.n_fft < 2 * self.hop:
            raise ValueError("n_fft and hop must be even, and n_fft twice hop or more")
        if self.mel.hop > 8 * self.hop or self.n_fft > 16 * self.hop:
            raise ValueError("hop must be an eighth of the mel's hop and a sixteenth of n_fft, or more")
        if self.mel.window != self.mel.n_fft or self.mel.window % self.mel.hop or self.mel.window < 2 * self.mel.hop:
            raise ValueError("the mel's window must be as long as its n_fft, and twice its hop or a higher multiple")
        return self


class SourceFilterVocoder(Vocoder, PretrainedModel, config=SourceFilterVocoderConfig):
    """Ln-mels to waveforms. The same mel gives the same samples, alone or in a batch.

    Example:
        >>> import torch
        >>> SourceFilterVocoder()(torch.zeros(2, 80, 86)).shape
        torch.Size([2, 22016])
    """

    def __init__(self, config: SourceFilterVocoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or SourceFilterVocoderConfig()
        c = self.config
        self.mel_config = c.mel
        self.post_processing = c.ground_truth
        self.f0 = F0Classifier(c.mel.n_mels, channels=c.f0_channels, blocks=c.f0_blocks, kernel=3)
        self.backbone = Backbone(
            c.mel.n_mels + 2, channels=c.channels, blocks=c.blocks, kernel=c.kernel, expansion=c.expansion
        )
        self.head = FilterHead(c.mel, channels=c.channels, n_fft=c.n_fft, hop=c.hop)
        self.analysis = MelSpectrogram(c.mel)
        noise = np.random.default_rng(0).standard_normal((2, NOISE_SAMPLES), dtype=np.float32)
        self.register_buffer("noise", torch.from_numpy(noise), persistent=False)
        self.register_buffer("window", torch.hann_window(c.n_fft, device="cpu"), persistent=False)

    @property
    def reach(self) -> int:
        """Mel frames to either side on which a sample may depend, rounded up to an even number."""
        c = self.config
        network = (c.kernel // 2) * (1 + c.blocks) + 1
        f0 = 2 + 2 * c.f0_blocks + 4
        window = -(-c.n_fft // c.mel.hop) + 1
        analysis = -(-c.mel.n_fft // c.mel.hop)
        r = self.post_processing
        smoothing = -(-(r.gain_smoothing // 2) * c.hop // c.mel.hop)
        gains = r.gain_iterations * (analysis + CORRECTION_FRAMES // 2 + window)
        magnitudes = r.griffin_lim_iterations * analysis
        return -(-(max(network, f0) + smoothing + window + gains + magnitudes) // 2) * 2

    def forward(self, mel: Tensor) -> Tensor:
        """Ln-mel (batch, n_mels, frames) → samples (batch, frames * hop), at the F0 predicted from the mel.

        Raises:
            VcvaeError: not a mel of this shape.
        """
        return self.synthesize(mel)

    @torch.no_grad()
    def synthesize(self, mel: Tensor, f0: F0Contour | None = None) -> Tensor:
        """The same at a given F0 (batch, ceil(frames / 2)); by default, as predicted from the mel."""
        self._check(mel)
        stream = self.stream()
        contour = f0.per_frame(mel.shape[-1]) if f0 else None
        pieces = []
        for start in range(0, mel.shape[-1], CHUNK_FRAMES):
            end = start + CHUNK_FRAMES
            pieces.append(stream.push(mel[:, :, start:end], contour[:, start:end] if contour else None))
        pieces.append(stream.finish())
        return torch.cat(pieces, dim=1)

    def synthesize_for_training(self, mel: Tensor, f0: F0Contour) -> Tensor:
        """`synthesize`, differentiable: with random noise and initial phase, and without Griffin-Lim iterations."""
        contour = f0.per_frame(mel.shape[2])
        return self.synthesize_corrected(mel, contour, self.random_sources(contour))

    def stream(self) -> SynthesisStream:
        """Synthesis of a mel that arrives in pieces."""
        return SynthesisStream(self)

    def for_predicted_mels(self) -> SourceFilterVocoder:
        """This vocoder with the post-processing for predicted mels; both share all tensors."""
        other = copy.copy(self)
        other.post_processing = self.config.predicted
        return other

    def f0_logits(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mel → logits of the F0 bins (batch, ceil(frames / 2), bins) and of voicing (batch, ceil(frames / 2))."""
        return self.f0.logits((mel.transpose(1, 2) - INPUT_MEAN) / INPUT_STD)

    def predict_filters(self, mel: Tensor, f0: F0Contour) -> Filters:
        """Mel (batch, n_mels, frames) and its F0, a value per mel frame → the filters."""
        f0_input = torch.stack([(f0.log_f0 - 7.2) / 0.5, f0.voicing], dim=1)
        features = self.backbone(torch.cat([(mel - INPUT_MEAN) / INPUT_STD, f0_input], dim=1).transpose(1, 2))
        return self.head(features, mel, gain_smoothing=self.post_processing.gain_smoothing)

    def random_sources(self, contour: F0Contour) -> SourceSpectra:
        """Sources at an F0 contour, a value per mel frame, with random noise and initial phase."""
        c = self.mel_config
        f0 = excitation.fundamental(contour.log_f0, hop=c.hop)
        phase = excitation.phase(f0, sample_rate=c.sample_rate, hop=c.hop)
        start = torch.rand_like(phase[:, :1])
        return self.make_sources(f0, phase + start, torch.randn(2, *f0.shape, device=f0.device))

    def make_sources(self, f0: Tensor, phase: Tensor, noise: Tensor) -> SourceSpectra:
        """F0 in Hz and its phase in cycles, (batch, samples), and white noise (2, batch, samples) → the sources."""
        pulses = excitation.pulses(f0, phase, sample_rate=self.mel_config.sample_rate)
        sources = pulses, excitation.aspiration(noise[0], phase), noise[1]
        return tuple(transform(source, self.window, self.config.hop) for source in sources)

    def filter_sources(self, filters: Filters, sources: SourceSpectra) -> Tensor:
        """Sources through filters → samples (batch, samples)."""
        return inverse(self.filtered_spectra(filters, sources), self.window, self.config.hop)

    def filtered_spectra(self, filters: Filters, sources: SourceSpectra) -> Tensor:
        """Sources through filters → the spectra of their sum, (batch, frames, bins)."""
        pulse_gain, aspiration_gain, noise_gain, phase = filters
        pulses, aspiration, noise = sources
        voice = torch.polar(pulse_gain.exp(), phase) * pulses + torch.polar(aspiration_gain.exp(), phase) * aspiration
        return voice + noise_gain.exp() * noise

    def render(self, mel: Tensor, f0: F0Contour, sources: SourceSpectra) -> Tensor:
        """Mel (batch, n_mels, frames), F0 per mel frame and sources → samples (batch, samples), fully corrected."""
        return self.correct_magnitudes(self.synthesize_corrected(mel, f0, sources), mel)

    def synthesize_corrected(self, mel: Tensor, f0: F0Contour, sources: SourceSpectra) -> Tensor:
        """`render` with corrected gains, but without Griffin-Lim iterations."""
        filters = self.predict_filters(mel, f0)
        samples = self.filter_sources(filters, sources)
        for _ in range(self.post_processing.gain_iterations):
            filters = self.head.correct_gains(filters, mel - self.measure_mel(samples))
            samples = self.filter_sources(filters, sources)
        return samples

    def measure_mel(self, samples: Tensor) -> Tensor:
        """Samples (batch, frames * hop) → their ln-mel, as of `MelSpectrogram`, for any number of frames."""
        magnitude = self.analysis.filters @ self._spectra(samples).abs().transpose(1, 2)
        return magnitude.clamp(min=self.mel_config.floor).log()

    def correct_magnitudes(self, samples: Tensor, mel: Tensor) -> Tensor:
        """Samples (batch, frames * hop) → samples whose ln-mel is nearer to `mel` (batch, n_mels, frames)."""
        target_mel, analysis, hop = mel.exp(), self.analysis, self.mel_config.hop
        for _ in range(self.post_processing.griffin_lim_iterations):
            spectra = self._spectra(samples)
            magnitude = spectra.abs().clamp(min=1e-9)
            corrected = toward_mel(magnitude.transpose(1, 2), target_mel, analysis.filters).transpose(1, 2)
            samples = inverse(spectra * (corrected / magnitude), analysis.window, hop)
        return samples

    def _check(self, mel: Tensor) -> None:
        n_mels = self.mel_config.n_mels
        if mel.ndim != 3 or mel.shape[1] != n_mels or mel.shape[2] < 1:
            raise VcvaeError(f"a mel must be (batch, {n_mels}, frames ≥ 1), not {tuple(mel.shape)}.")

    def _spectra(self, samples: Tensor) -> Tensor:
        """Samples → the complex spectra (batch, frames, bins) of the mel, for any number of frames."""
        return transform(samples, self.analysis.window, self.mel_config.hop, mirrored=True)


class SynthesisStream:
    """Synthesis in pieces, with the same samples as in one call.

    A sample is available `reach` mel frames later: a delay of .70 s with the default sizes.

    Example:
        >>> import torch
        >>> vocoder, mel = SourceFilterVocoder().eval(), torch.zeros(1, 80, 100)
        >>> stream = vocoder.stream()
        >>> pieces = [stream.push(mel[:, :, :60]), stream.push(mel[:, :, 60:]), stream.finish()]
        >>> [piece.shape[1] // 256 for piece in pieces]
        [0, 40, 60]
    """

    def __init__(self, vocoder: SourceFilterVocoder) -> None:
        self.vocoder = vocoder
        self.mel: Tensor | None = None  # the input from frame `first` on
        self.f0: F0Contour | None = None  # the same, if it is given
        self.first = self.done = 0  # frames from the start; `done` are synthesized
        self.phase: Tensor | float = 0.0  # of the pulses after the last sample, (batch, 1) in cycles

    @torch.no_grad()
    def push(self, mel: Tensor, f0: F0Contour | None = None) -> Tensor:
        """The next frames, ln-mel (batch, n_mels, frames) → the samples that are now available, (batch, samples).

        `f0` (batch, frames), a value per mel frame, is given with every piece or with none.

        Raises:
            VcvaeError: not a mel of this shape.
        """
        self.vocoder._check(mel)
        self.mel = mel if self.mel is None else torch.cat([self.mel, mel], dim=2)
        self.f0 = f0 if self.f0 is None else F0Contour.concatenate([self.f0, f0])
        return self._synthesize_until(self.first + self.mel.shape[2] - self.vocoder.reach)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """The remaining samples, (batch, samples)."""
        return self._synthesize_until(self.first + self.mel.shape[2])

    def _synthesize_until(self, end: int) -> Tensor:
        """The samples that are not yet done, up to frame `end`."""
        model, mel, hop = self.vocoder, self.mel, self.vocoder.mel_config.hop
        if end <= self.done:
            return mel.new_zeros(len(mel), 0)
        rate, start = model.mel_config.sample_rate, (self.done - self.first) * hop
        contour = self.f0 or model.f0.decode(*model.f0_logits(mel)).per_frame(mel.shape[2])
        f0 = excitation.fundamental(contour.log_f0, hop=hop)
        phase = excitation.phase(f0, sample_rate=rate, hop=hop)
        phase = phase + (self.phase - phase[:, start - 1 : start] if start else self.phase)
        noise_index = (self.first * hop + torch.arange(f0.shape[1], device=mel.device)) % NOISE_SAMPLES
        sources = model.make_sources(f0, phase, model.noise[:, None, noise_index])
        samples = model.render(mel, contour, sources)
        stop = (end - self.first) * hop
        self.phase, self.done = phase[:, stop - 1 : stop] % 1.0, end
        # The F0 classifier has half the frame rate: the kept input must start with an even frame.
        keep = max(0, end - model.reach) // 2 * 2
        self.f0 = self.f0 and self.f0[:, keep - self.first :]
        self.mel, self.first = mel[:, :, keep - self.first :], keep
        return samples[:, start:stop]
