"""The vocoder that ships: pulses and noise, filtered by what a network hears in the mel.

A voice is a source (pulses at its f0, breath in their time, and steady noise) behind a filter (the vocal tract). A
network at the frame rate finds the f0, where it is not told, and then the filters of the sources, as short-time
spectra; the sources' own spectra are multiplied by them, added, and transformed back.

The backbone of ConvNeXt blocks and the inverse transform at the end are those of Vocos (Siuzdak 2023,
arXiv:2306.00814) and iSTFTNet (Kaneko et al. 2022, arXiv:2203.02395). The sources are those of NSF (Wang et al.
2019, arXiv:1904.12088) and DDSP (Engel et al. 2020, arXiv:2001.04643): with the pulses given, a network need not learn
how the phases of a hundred harmonics move together, which is what a vocoder of spectra takes the min_utterance_samples to learn.

In the end the mel of what was made is compared with the mel that was asked for, and the spectra's magnitudes corrected:
Griffin & Lim's iteration (1984), begun so near to its end that eight rounds will do. A mel that a model made need not
be any waveform's, and a waveform that is forced to it is rough, as no phases fit. There, what the network makes of the
mel is held to it only in what changes slowly, by its filters' gains, which leaves the phases as they are; and as a
guessed mel's detail in time is the least sure, the pulses' filters change more smoothly, where harmonics are heard.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.config import Config
from vcvae.errors import VcvaeError
from vcvae.features.f0 import F0Contour
from vcvae.features.mel import MelConfig, MelSpectrogram
from vcvae.features.mel_scale import mel_frequencies
from vcvae.features.stft import MAX_MEL_CORRECTION, inverse, minimum_phase, moving_average, toward_mel, transform
from vcvae.models.f0_classifier import F0Classifier
from vcvae.models.hub import PretrainedModel
from vcvae.vocoder import excitation
from vcvae.vocoder.base import Vocoder

LOUDEST = 8.0  # ln of the largest gain, so that no mel makes an overflow
NOISE = 2**17  # samples until the noise repeats: 6 s
SMOOTH = (1500.0, 4500.0)  # Hz: below it the pulses' gains are smoothed in full, beyond it not at all
SLOWLY = 5  # mel frames, 58 ms: what a calibration lacks is averaged over as many
PIECE = 2048  # mel frames that are spoken at once, so that memory does not grow with the length: 24 s
# Mean and standard deviation by which this network's log-mel input, which keeps its level, is standardized.
INPUT_MEAN, INPUT_STD = -5.0, 2.0

# Log-gain of the pulses, of the breath and of the noise, and the phase of the first two: (batch, …, bins) each.
Filters = tuple[Tensor, Tensor, Tensor, Tensor]
# Complex spectra of the pulses, of the breath and of the noise, as long: (batch, …, bins) each.
Sources = tuple[Tensor, Tensor, Tensor]


class PostProcessing(Config):
    """How a mel becomes a waveform. The defaults are for mels of recordings."""

    gain_smoothing: int = Field(1, gt=0, description="the pulses' filters that are averaged over time; an odd number")
    gain_iterations: int = Field(0, ge=0, description="steps of the filters' gains towards the mel, afterwards")
    griffin_lim_iterations: int = Field(8, ge=0, description="steps of the spectra's magnitudes towards it, in the end")

    @model_validator(mode="after")
    def _holds_together(self) -> PostProcessing:
        if self.gain_smoothing % 2 == 0:
            raise ValueError("gain_smoothing must be odd")
        return self


class SourceFilterVocoderConfig(Config):
    """Sizes of the neural vocoder. The defaults have 3.8 M parameters."""

    mel: MelConfig = MelConfig()
    channels: int = Field(256, gt=0, description="width of the backbone")
    blocks: int = Field(7, ge=0, description="ConvNeXt blocks")
    expansion: int = Field(3, gt=0, description="width within a block, in widths of the backbone")
    kernel: int = Field(7, gt=0, description="frames; an odd number")
    f0_channels: int = Field(128, gt=0, description="width of the f0 classifier")
    f0_blocks: int = Field(4, ge=0, description="its residual blocks, at half the frame rate")
    n_fft: int = Field(512, gt=0, description="samples; window and transform of the filters")
    hop: int = Field(128, gt=0, description="samples between two filters; it divides n_fft and the mel's hop")
    ground_truth: PostProcessing = PostProcessing()
    predicted: PostProcessing = PostProcessing(gain_smoothing=3, gain_iterations=1, griffin_lim_iterations=0)

    @model_validator(mode="after")
    def _holds_together(self) -> SourceFilterVocoderConfig:
        if self.kernel % 2 == 0:
            raise ValueError("kernel must be odd")
        if self.n_fft % self.hop or self.mel.hop % self.hop:
            raise ValueError("hop must divide n_fft and the mel's hop")
        return self


class ConvNeXtBlock(nn.Module):
    """x + γ · W₂ GELU(W₁ norm(depthwise convolution)), on (batch, frames, channels).

    Liu et al. 2022 (arXiv:2201.03545).
    """

    def __init__(self, channels: int, *, kernel: int, expansion: int, scale: float) -> None:
        super().__init__()
        # Two-dimensional, as CPUs run it eight times as fast as the one-dimensional.
        self.depthwise = nn.Conv2d(channels, channels, (kernel, 1), padding=(kernel // 2, 0), groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, expansion * channels)
        self.project = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x.transpose(1, 2).unsqueeze(3)).squeeze(3).transpose(1, 2)
        return x + self.scale * self.project(F.gelu(self.expand(self.norm(y))))


class Backbone(nn.Module):
    """(batch, frames, inputs) → (batch, frames, channels)."""

    def __init__(self, inputs: int, config: SourceFilterVocoderConfig) -> None:
        super().__init__()
        c = config
        self.stem = nn.Conv1d(inputs, c.channels, c.kernel, padding=c.kernel // 2)
        self.norm = nn.LayerNorm(c.channels)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(c.channels, kernel=c.kernel, expansion=c.expansion, scale=1 / c.blocks)
            for _ in range(c.blocks)
        )
        self.last = nn.LayerNorm(c.channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x.transpose(1, 2)).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return self.last(x)


class FilterHead(nn.Module):
    """The backbone's features and the mel → the filters of the three sources.

    The gains are what the mel itself says, read off between its bands' centres, plus what the network adds; the phases
    are those of a minimum-phase filter plus what the network adds. So even an untrained network speaks.
    """

    def __init__(self, config: SourceFilterVocoderConfig) -> None:
        super().__init__()
        mel, self.bins, self.parts = config.mel, config.n_fft // 2 + 1, config.mel.hop // config.hop
        self.linear = nn.Linear(config.channels, self.parts * 4 * self.bins)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        edges = mel_frequencies(mel.n_mels + 2, f_min=mel.f_min, f_max=mel.f_max)
        frequencies = np.linspace(0, mel.sample_rate / 2, self.bins)
        reading = np.stack([np.interp(frequencies, edges[1:-1], row) for row in np.eye(mel.n_mels)])
        # The ln-mel of the three sources together, each at its unit power.
        bands = MelSpectrogram(mel).filters.sum(dim=1).numpy()
        power = torch.hann_window(mel.window).square().sum().item() * 3
        white = np.log(bands.clip(min=1e-9) * math.sqrt(power))
        self.register_buffer("reading", torch.tensor(reading, dtype=torch.float32), persistent=False)
        self.register_buffer("white", torch.tensor(white, dtype=torch.float32), persistent=False)
        smoothed = np.interp(frequencies, SMOOTH, (1, 0))
        self.register_buffer("smoothed", torch.tensor(smoothed, dtype=torch.float32), persistent=False)

    def forward(self, features: Tensor, mel: Tensor, *, gain_smoothing: int = 1) -> Filters:
        """Features (batch, frames, channels), ln-mel (batch, n_mels, frames) → (batch, parts · frames, bins) each.

        Of the pulses, each filter is the mean of `gain_smoothing` around it: of the directions of what is added to the
        phases, and of the log-gains in the lower bins. A voice is rough where its single harmonics flutter; higher up,
        where none is heard alone, and in noise, such detail belongs to the voice.
        """
        added = self.linear(features).reshape(len(mel), -1, 4, self.bins)
        heard = self._read(mel - self.white[:, None])
        pulses, breath, noise = (heard[:, :, None] + added[:, :, :3]).clamp(max=LOUDEST).unbind(2)
        turn = added[:, :, 3]
        if gain_smoothing > 1:
            mean, along, across = (moving_average(x.mT, gain_smoothing).mT for x in (pulses, turn.cos(), turn.sin()))
            pulses, turn = torch.lerp(pulses, mean, self.smoothed), torch.atan2(across, along)
        return pulses, breath, noise, minimum_phase(pulses) + turn

    def correct_gains(self, filters: Filters, lacking: Tensor) -> Filters:
        """The same with gains that are larger by what the ln-mel lacks, (batch, n_mels, frames); the phases stay."""
        most = math.log(MAX_MEL_CORRECTION)
        added = self._read(moving_average(lacking.clamp(-most, most), SLOWLY))
        *gains, turn = filters
        return *((gain + added).clamp(max=LOUDEST) for gain in gains), turn

    def _read(self, mel: Tensor) -> Tensor:
        """Mel (batch, n_mels, frames) → (batch, parts · frames, bins), read off between the bands' centres."""
        return F.interpolate(mel, scale_factor=self.parts, mode="linear").transpose(1, 2) @ self.reading


class SourceFilterVocoder(Vocoder, PretrainedModel, config=SourceFilterVocoderConfig):
    """Ln-mels to waveforms, at the frame rate. The same mel gives the same samples, alone or in a batch.

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
        self.backbone = Backbone(c.mel.n_mels + 2, c)
        self.head = FilterHead(c)
        self.analysis = MelSpectrogram(c.mel)
        noise = np.random.default_rng(0).standard_normal((2, NOISE), dtype=np.float32)
        self.register_buffer("noise", torch.from_numpy(noise), persistent=False)
        self.register_buffer("window", torch.hann_window(c.n_fft), persistent=False)

    @property
    def reach(self) -> int:
        """Mel frames to either side on which a sample may depend, rounded up to an even number."""
        c = self.config
        network = (c.kernel // 2) * (1 + c.blocks) + 1
        f0 = 2 + 2 * c.f0_blocks + 4
        window = -(-c.n_fft // c.mel.hop) + 1
        analysis = -(-c.mel.n_fft // c.mel.hop)
        r = self.post_processing
        gain_smoothing = -(-(r.gain_smoothing // 2) * c.hop // c.mel.hop)
        held = r.gain_iterations * (analysis + SLOWLY // 2 + window) + r.griffin_lim_iterations * analysis
        return -(-(max(network, f0) + gain_smoothing + window + held) // 2) * 2

    def forward(self, mel: Tensor) -> Tensor:
        """Ln-mel (batch, n_mels, frames) → samples (batch, frames * hop), at the f0 that the mel lets hear.

        Raises:
            VcvaeError: not a mel of this shape.
        """
        return self.synthesize(mel)

    @torch.no_grad()
    def synthesize(self, mel: Tensor, f0: F0Contour | None = None) -> Tensor:
        """The same at a `f0` (batch, ceil(frames / 2)) that is known, and need not be found in a blurred mel."""
        stream, pieces = self.stream(), mel.split(PIECE, dim=-1)
        told = f0 and f0.per_frame(mel.shape[-1])
        starts = range(0, PIECE * len(pieces), PIECE)
        spoken = [
            stream.push(piece, told and told[:, start : start + PIECE])
            for piece, start in zip(pieces, starts, strict=True)
        ]
        return torch.cat([*spoken, stream.finish()], dim=1)

    def synthesize_for_training(self, mel: Tensor, f0: F0Contour) -> Tensor:
        """As `synthesize`, within reach of a gradient: noise and the first phase are drawn, and nothing is corrected."""
        told = f0.per_frame(mel.shape[2])
        return self.synthesize_corrected(mel, told, self.random_sources(told))

    def stream(self) -> Stream:
        """Speak a mel that comes piece by piece."""
        return Stream(self)

    def for_predicted_mels(self) -> SourceFilterVocoder:
        """The same network, in the post_processing for mels that a model made; it shares the weights."""
        other = copy.copy(self)
        other.post_processing = self.config.predicted
        return other

    def f0_logits(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mel → scores of the f0's bins (batch, ceil(frames / 2), bins) and of being voiced, as logits."""
        return self.f0.logits((mel.transpose(1, 2) - INPUT_MEAN) / INPUT_STD)

    def predict_filters(self, mel: Tensor, f0: F0Contour) -> Filters:
        """Mel (batch, n_mels, frames) and its f0, a value per mel frame → the filters."""
        told = torch.stack([(f0.log_f0 - 7.2) / 0.5, f0.voicing], dim=1)
        heard = torch.cat([(mel - INPUT_MEAN) / INPUT_STD, told], dim=1)
        return self.head(self.backbone(heard.transpose(1, 2)), mel, gain_smoothing=self.post_processing.gain_smoothing)

    def random_sources(self, contour: F0Contour) -> Sources:
        """Sources at a f0, a value per mel frame, whose noise and first phase are drawn."""
        c = self.mel_config
        f0 = excitation.fundamental(contour.log_f0, hop=c.hop)
        phase = excitation.phase(f0, sample_rate=c.sample_rate, hop=c.hop)
        start = torch.rand_like(phase[:, :1])
        return self.make_sources(f0, phase + start, torch.randn(2, *f0.shape, device=f0.device))

    def make_sources(self, f0: Tensor, phase: Tensor, noise: Tensor) -> Sources:
        """F0 in Hz and its phase in cycles, (batch, samples), and white noise (2, batch, samples) → the sources."""
        pulses = excitation.pulses(f0, phase, sample_rate=self.mel_config.sample_rate)
        sources = pulses, excitation.breath(noise[0], phase), noise[1]
        return tuple(transform(source, self.window, self.config.hop) for source in sources)

    def filter_sources(self, filters: Filters, sources: Sources) -> Tensor:
        """Sources through filters → samples (batch, samples)."""
        pulse_gain, breath_gain, noise_gain, turn = filters
        pulses, breath, steady = sources
        voice = torch.polar(pulse_gain.exp(), turn) * pulses + torch.polar(breath_gain.exp(), turn) * breath
        return inverse(voice + noise_gain.exp() * steady, self.window, self.config.hop)

    def render(self, mel: Tensor, f0: F0Contour, sources: Sources) -> Tensor:
        """Samples (batch, samples) that are held to the mel (batch, n_mels, frames); `f0` is per mel frame."""
        return self.correct_magnitudes(self.synthesize_corrected(mel, f0, sources), mel)

    def synthesize_corrected(self, mel: Tensor, f0: F0Contour, sources: Sources) -> Tensor:
        """The same, its filters held to the mel, and not yet its spectra."""
        filters = self.predict_filters(mel, f0)
        samples = self.filter_sources(filters, sources)
        for _ in range(self.post_processing.gain_iterations):
            filters = self.head.correct_gains(filters, mel - self._mel(samples))
            samples = self.filter_sources(filters, sources)
        return samples

    def correct_magnitudes(self, samples: Tensor, mel: Tensor) -> Tensor:
        """Samples (batch, frames * hop) → samples whose ln-mel is nearer to `mel` (batch, n_mels, frames)."""
        wanted, analysis, hop = mel.exp(), self.analysis, self.mel_config.hop
        for _ in range(self.post_processing.griffin_lim_iterations):
            spectra = self._spectra(samples)
            magnitude = spectra.abs().clamp(min=1e-9)
            nearer = toward_mel(magnitude.transpose(1, 2), wanted, analysis.filters).transpose(1, 2)
            samples = inverse(spectra * (nearer / magnitude), analysis.window, hop)
        return samples

    def _spectra(self, samples: Tensor) -> Tensor:
        """Samples → what the mel is made of, complex (batch, frames, bins), of however few frames."""
        return transform(samples, self.analysis.window, self.mel_config.hop, mirrored=True)

    def _mel(self, samples: Tensor) -> Tensor:
        """As `MelSpectrogram`, of however few frames."""
        magnitude = self.analysis.filters @ self._spectra(samples).abs().transpose(1, 2)
        return magnitude.clamp(min=self.mel_config.floor).log()


class Stream:
    """A waveform made piece by piece, the same as if it were made at once.

    A sample is made when the `reach` mel frames that follow it are known: a delay of .70 s with the default sizes.

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
        self.mel: Tensor | None = None  # what has come, from frame `first` on
        self.f0: F0Contour | None = None  # the same, where it is told
        self.first = self.spoken = 0  # frames since the beginning
        self.phase: Tensor | float = 0.0  # where the pulses stand after what is spoken, (batch, 1) in cycles

    @torch.no_grad()
    def push(self, mel: Tensor, f0: F0Contour | None = None) -> Tensor:
        """The next frames, ln-mel (batch, n_mels, frames) → the samples that they complete, (batch, samples).

        `f0` (batch, frames), a value per mel frame, is told with every piece or with none.

        Raises:
            VcvaeError: not a mel of this shape.
        """
        n_mels = self.vocoder.mel_config.n_mels
        if mel.ndim != 3 or mel.shape[1] != n_mels or mel.shape[2] < 1:
            raise VcvaeError(f"a mel must be (batch, {n_mels}, frames ≥ 1), not {tuple(mel.shape)}.")
        self.mel = mel if self.mel is None else torch.cat([self.mel, mel], dim=2)
        self.f0 = f0 if self.f0 is None else F0Contour.concatenate([self.f0, f0])
        return self._speak(self.first + self.mel.shape[2] - self.vocoder.reach)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """The remaining samples, (batch, samples)."""
        return self._speak(self.first + self.mel.shape[2])

    def _speak(self, end: int) -> Tensor:
        """The samples up to frame `end`."""
        model, mel, hop = self.vocoder, self.mel, self.vocoder.mel_config.hop
        if end <= self.spoken:
            return mel.new_zeros(len(mel), 0)
        rate, start = model.mel_config.sample_rate, (self.spoken - self.first) * hop
        contour = self.f0 or model.f0.decode(*model.f0_logits(mel)).per_frame(mel.shape[2])
        f0 = excitation.fundamental(contour.log_f0, hop=hop)
        run = excitation.phase(f0, sample_rate=rate, hop=hop)
        run = run + (self.phase - run[:, start - 1 : start] if start else self.phase)
        place = (self.first * hop + torch.arange(f0.shape[1], device=mel.device)) % NOISE
        sources = model.make_sources(f0, run, model.noise[:, None, place])
        samples = model.render(mel, contour, sources)
        stop = (end - self.first) * hop
        self.phase, self.spoken = run[:, stop - 1 : stop] % 1.0, end
        # The f0 classifier takes frames two by two: what is kept must begin with an even one.
        keep = max(0, end - model.reach) // 2 * 2
        self.f0 = self.f0 and self.f0[:, keep - self.first :]
        self.mel, self.first = mel[:, :, keep - self.first :], keep
        return samples[:, start:stop]
