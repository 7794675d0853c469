"""Voices that a converter's decoder has learned, as it does when one converts: what its texture will meet.

A decoder that has learned one voice makes other medians than the one that has heard of everybody: nearer to that voice,
and wrong in other ways. A texture that has never heard such medians adds less to them than it could.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vcvae.adapt import Heard, adapt
from vcvae.models.disentangling import Decoder, DisentanglingVAE, Median
from vcvae.models.voice import Timbre, Voice
from vcvae.pitch import Pitch


class LearnedVoice(nn.Module):
    """A decoder without its texture, and the voice that it has learned; nothing before `learn`.

    latent, said, sound: the voice's timbre, as in `Timbre`; (1, …), and so many exemplars.
    register: mean log2 F0, (1,).
    known: (1, n_mels), 1 in the bands that all of its recordings fill.
    """

    def __init__(self, model: DisentanglingVAE, exemplars: int) -> None:
        super().__init__()
        sizes = model.config
        self.decoder = Decoder(sizes.model_copy(update={"texture_blocks": 0})).requires_grad_(False)
        self.register_buffer("latent", torch.zeros(1, sizes.speaker_latent))
        self.register_buffer("said", torch.zeros(1, exemplars, sizes.content_latent))
        self.register_buffer("sound", torch.zeros(1, exemplars, sizes.speaker_channels))
        self.register_buffer("register", torch.zeros(1))
        self.register_buffer("known", torch.zeros(1, sizes.mel.n_mels))

    @torch.no_grad()
    def learn(self, model: DisentanglingVAE, heard: list[Heard], *, rehearsed: list[Heard], seed: int) -> None:
        """Learn the voice of some recordings as for a conversion of others, which are rehearsed."""
        decoder = adapt(model, heard, rehearsed=rehearsed, seed=seed).decoder
        decoder.texture = None
        self.decoder.load_state_dict(decoder.state_dict())
        voice = Voice.join(model.voice(mel, known=known) for mel, known in heard).average()
        for name in ("latent", "said", "sound"):
            getattr(self, name).copy_(getattr(voice.timbre, name))
        self.register.copy_(voice.register)
        self.known.copy_(torch.stack([known for _, known in heard]).amin(dim=0))

    @torch.no_grad()
    def median(self, content: Tensor, pitch: Pitch, registers: Tensor, *, frames: int) -> Median:
        """Contents (batch, latent, ceil(frames / 4)), and pitch moved here from `registers` (batch,), in this voice."""
        timbre = Timbre(self.latent, self.said, self.sound, torch.ones_like(self.said[..., :1]))
        moved = pitch.shift((self.register - registers).nan_to_num(0.0))
        return self.decoder.median(content, timbre.expand(len(content)), moved, frames=frames)
