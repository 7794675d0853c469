"""Synthesis of a mel that arrives in pieces by the source-filter vocoder, with a latency below a frame's window.

`SourceFilterVocoder.stream` waits until a sample depends on nothing that is still to come, .70 s. Here the filters of a
frame are predicted from the frames so far and a few more, and are final: successive filters overlap and add as always,
so there are no joins. The correction of gains towards the mel takes the samples around a frame; those that follow are
synthesized for this alone. Griffin-Lim iterations are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vcvae.features.f0 import F0Contour
from vcvae.vocoder import excitation
from vcvae.vocoder.source_filter import NOISE_SAMPLES, SourceFilterVocoder

CORRECTION_CONTEXT = 8  # frames before, on whose samples the correction of a gain depends, rounded up


class LowLatencyStream:
    """One stream through a vocoder.

    Example:
        >>> vocoder = SourceFilterVocoder().eval()
        >>> stream, mel = LowLatencyStream(vocoder), torch.zeros(1, 80, 20)
        >>> f0 = F0Contour(torch.full((1, 20), 7.0), torch.ones(1, 20))
        >>> stream.push(mel, f0, 12).shape[1] == 12 * 256 - stream.delay
        True
    """

    def __init__(self, vocoder: SourceFilterVocoder) -> None:
        self.vocoder = vocoder
        config = vocoder.config
        # Samples by which the output lags behind the frames that are given: half of what overlaps.
        self.delay = (config.n_fft - config.hop) // 2
        self._context = (config.kernel // 2) * (1 + config.blocks) + 1  # frames before, on which a filter depends
        self._frames = 0  # that are synthesized
        self._phase = torch.zeros(1, 1, dtype=torch.float64)  # of the pulses after the last sample of the sources
        self._mel: Tensor | None = None  # the last frames
        self._f0: F0Contour | None = None  # their F0
        # Pulses, aspiration and noise: from `delay` samples before the first kept frame on.
        self._sources = torch.zeros(3, 1, self.delay)
        self._kept = 0  # frames whose sources are kept, before those that come next
        self._made = 0  # samples of the sources that are final, from the start
        self._overlap = torch.zeros(1, config.n_fft - config.hop)
        self._power = config.n_fft / config.hop * float(vocoder.window.square().mean())

    @torch.inference_mode()
    def push(self, mel: Tensor, f0: F0Contour, frames: int) -> Tensor:
        """The next frames → the samples (1, samples) that are now final: `delay` fewer than frames at first.

        Args:
            mel: ln-mel (1, n_mels, frames and more): the look-ahead that follows may change until the next call.
            f0: a value per frame, (1, frames and more).
            frames: the number of frames that are final.
        """
        vocoder, config, hop = self.vocoder, self.vocoder.config, self.vocoder.mel_config.hop
        before = 0
        if self._mel is not None:
            before = self._mel.shape[2]
            mel = torch.cat([self._mel, mel], dim=2)
            f0 = F0Contour.concatenate([self._f0, f0])
        filters = vocoder.predict_filters(mel, f0)
        parts = hop // config.hop
        first = before - self._kept
        filters = tuple(x[:, first * parts :] for x in filters)
        sources = self._make_sources(f0, before, frames)
        for _ in range(vocoder.post_processing.gain_iterations):
            samples = vocoder.filter_sources(filters, sources)
            filters = vocoder.head.correct_gains(filters, mel[:, :, first:] - vocoder.measure_mel(samples))
        final = slice(self._kept * parts, (self._kept + frames) * parts)
        spectra = vocoder.filtered_spectra([x[:, final] for x in filters], [x[:, final] for x in sources])
        samples = self._overlap_add(torch.fft.irfft(spectra, config.n_fft) * vocoder.window)

        start = max(0, before + frames - self._context)
        self._mel, self._f0 = mel[:, :, start : before + frames], f0[:, start : before + frames]
        kept = min(before + frames, CORRECTION_CONTEXT)
        self._sources = self._sources[:, :, (self._kept + frames - kept) * hop :]
        self._kept = kept
        skipped = self.delay if not self._frames else 0
        self._frames += frames
        return samples[:, skipped:]

    def _make_sources(self, f0: F0Contour, before: int, frames: int) -> list[Tensor]:
        """The spectra of the three sources, from the first frame that is kept to the last of f0.

        Args:
            f0: a value per frame, from `before` frames before those that come next.
            before: number of frames of f0 that were synthesized before.
            frames: number of those that are final now: so are the samples that their filters need.
        """
        vocoder, config, hop = self.vocoder, self.vocoder.config, self.vocoder.mel_config.hop
        start = (self._frames - before) * hop  # the sample where f0 starts
        end = (self._frames + frames) * hop + self.delay
        hertz = F.pad(excitation.fundamental(f0.log_f0, hop=hop), (0, self.delay), mode="replicate")
        hertz = hertz[:, self._made - start :]
        phase = self._phase + (hertz.double() / vocoder.mel_config.sample_rate).cumsum(dim=1)
        index = (self._made + torch.arange(hertz.shape[1], device=hertz.device)) % NOISE_SAMPLES
        noise = vocoder.noise[:, None, index]
        pulses = excitation.pulses(hertz, phase, sample_rate=vocoder.mel_config.sample_rate)
        made = torch.stack([pulses, excitation.aspiration(noise[0], phase), noise[1]])
        count = end - self._made
        sources = torch.cat([self._sources, made], dim=2)
        self._phase = phase[:, count - 1 : count] % 1.0
        self._sources, self._made = sources[:, :, : sources.shape[2] - hertz.shape[1] + count], end
        return list(torch.fft.rfft(sources.unfold(-1, config.n_fft, config.hop) * vocoder.window))

    def _overlap_add(self, segments: Tensor) -> Tensor:
        """(1, count, n_fft) → the samples that no later segment adds to, (1, count · hop)."""
        config = self.vocoder.config
        parts, count = config.n_fft // config.hop, segments.shape[1]
        slots = segments.reshape(1, count, parts, config.hop)
        total = sum(F.pad(slots[:, :, i], (0, 0, i, parts - 1 - i)) for i in range(parts)).flatten(1)
        total[:, : self._overlap.shape[1]] += self._overlap
        self._overlap = total[:, count * config.hop :]
        return total[:, : count * config.hop] / self._power
