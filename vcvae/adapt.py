"""A voice that was never heard in training, learned from the very utterances that show it, in seconds.

What the decoder makes of a new voice is near it, and not it: the exemplars tell how it sounds, but which of all that is
heard matters was learned from other voices. A few steps on the target's own speech, rebuilt from its content and the
rest of its frames, move the decoder to it (as in AdaSpeech, Chen et al. 2021, arXiv:2103.00993, with more of both).
Only few: what the steps win in likeness they begin to lose in words.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from vcvae.defaults import ADAPT_STEPS
from vcvae.models.disentangling import DisentanglingVAE
from vcvae.models.voice import Timbre, level
from vcvae.training.perturbation import Perturbation, PerturbationConfig

RATE = 4e-4
SEGMENT = 256  # frames that a step rebuilds: 3 s
MOST = 4096  # exemplars, 190 s, that a step looks up: more say little more, and cost as much again
REST = 20  # exemplars that must be left beside them; where fewer are, the segment's own are kept
WARP = 0.25  # the content is heard from voices as different as in training, or it would bring the target's along


def adapt(
    model: DisentanglingVAE, mels: list[Tensor], known: list[Tensor], *, steps: int = ADAPT_STEPS, seed: int = 0
) -> DisentanglingVAE:
    """A copy of the model whose decoder knows the speaker of log-mels (1, n_mels, frames).

    `known` (1, n_mels) is 1 in the bands that each recording fills; what it does not fill is not learned. The result
    depends on the arguments and the seed alone.
    """
    tuned = copy.deepcopy(model).requires_grad_(False)
    if not steps:
        return tuned
    decoder = tuned.decoder.requires_grad_(True).train()
    perturb = Perturbation(PerturbationConfig(warp=WARP), model.config.mel)
    with torch.no_grad():
        mels = [mel - level(mel[:, : model.config.encoder_bands]) for mel in mels]
        timbres = [model.timbre(mel, model.content(mel).mean) for mel in mels]
        pitches = [model.pitch(mel) for mel in mels]
    latent = Timbre.join(timbres).average().latent
    length = torch.tensor([float(mel.shape[2]) for mel in mels])
    optimizer = torch.optim.Adam(decoder.parameters(), lr=RATE)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        for _ in range(steps):
            which = int(torch.multinomial(length, 1))
            mel, pitch = mels[which], pitches[which]
            frames = min(SEGMENT, mel.shape[2])
            start = 4 * int(torch.randint((mel.shape[2] - frames) // 4 + 1, ()))
            place = slice(start, start + frames)
            with torch.no_grad():
                content = model.content(perturb(mel[:, :, place])).sample()
            timbre = _without(timbres, which, start // 4, content.shape[2], latent)
            decoded = decoder(content, timbre, pitch[:, start // 2 : (start + frames + 1) // 2], frames=frames)
            error = (decoded - mel[:, :, place]).abs().mean(dim=2)
            optimizer.zero_grad()
            ((error * known[which]).sum() / known[which].sum().clamp(min=1)).backward()
            optimizer.step()
    tuned.requires_grad_(False).eval()
    return tuned


def _without(timbres: list[Timbre], which: int, start: int, count: int, latent: Tensor) -> Timbre:
    """All exemplars but `count` from `start` on of one utterance, as one timbre (1, …); of many utterances, some."""
    kept = [torch.ones(timbre.said.shape[1], dtype=torch.bool) for timbre in timbres]
    if sum(map(len, kept)) > MOST:
        room = MOST
        for i in torch.randperm(len(kept)).tolist():
            kept[i][:] = i == which or room > 0
            room -= len(kept[i])
    kept[which][start : start + count] = False
    if sum(int(mask.sum()) for mask in kept) < REST:
        kept[which][:] = True
    frames = (
        torch.cat([getattr(timbre, name)[:, mask] for timbre, mask in zip(timbres, kept, strict=True)], dim=1)
        for name in ("said", "sound", "exists")
    )
    return Timbre(latent, *frames)
