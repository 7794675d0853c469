"""Speed against AdaIN-VC, side by side: training frames per second, and mel → mel of 10 s. By hand:

    python tests/bench/adain_vc.py [--threads 2]

AdaIN-VC is written here after its paper (Chou et al. 2019, arXiv:1904.05742) with the published sizes: 80 bands (4.9 M
parameters) for training, 512 bands (9 M) for conversion. Its training step is the network's alone; ours is the whole
step, with mel, f0 tracking, perturbation and optimizer.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.models.conversion.vae import DisentanglingVAE
from vcvae.training.tasks.conversion import ConversionConfig, ConversionTask

WIDTH, BANK, BLOCKS = 128, 8, 6
BATCH, FRAMES = 32, 128


def reflected(x: Tensor, layer: nn.Conv1d) -> Tensor:
    kernel = layer.kernel_size[0]
    return layer(F.pad(x, (kernel // 2, kernel // 2 - 1 + kernel % 2), mode="reflect"))


class Encoder(nn.Module):
    def __init__(self, bands: int, *, normalize: bool) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm1d(WIDTH) if normalize else nn.Identity()
        self.bank = nn.ModuleList(nn.Conv1d(bands, WIDTH, k) for k in range(1, BANK + 1))
        self.stem = nn.Conv1d(BANK * WIDTH + bands, WIDTH, 1)
        self.first = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 5) for _ in range(BLOCKS))
        self.second = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 5, stride=1 + i % 2) for i in range(BLOCKS))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([*(F.relu(reflected(x, conv)) for conv in self.bank), x], dim=1)
        x = F.relu(self.norm(self.stem(x)))
        for first, second in zip(self.first, self.second, strict=True):
            y = F.relu(self.norm(reflected(x, first)))
            y = F.relu(self.norm(reflected(y, second)))
            x = y + (F.avg_pool1d(x, 2, ceil_mode=True) if second.stride[0] == 2 else x)
        return x


class AdaINVC(nn.Module):
    def __init__(self, bands: int) -> None:
        super().__init__()
        self.content, self.speaker = Encoder(bands, normalize=True), Encoder(bands, normalize=False)
        self.mean, self.log_variance = (nn.Conv1d(WIDTH, WIDTH, 1) for _ in range(2))
        self.dense = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(BLOCKS)
        )
        self.embedding = nn.Linear(WIDTH, WIDTH)
        self.stem, self.norm = nn.Conv1d(WIDTH, WIDTH, 1), nn.InstanceNorm1d(WIDTH)
        self.first = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 5) for _ in range(BLOCKS))
        self.second = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH * (2 - i % 2), 5) for i in range(BLOCKS))
        self.affine = nn.ModuleList(nn.Linear(WIDTH, 2 * WIDTH) for _ in range(2 * BLOCKS))
        self.head = nn.Conv1d(WIDTH, bands, 1)

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.content(source)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        speaker = self.speaker(target).mean(dim=2)
        for dense in self.dense:
            speaker = speaker + dense(speaker)
        speaker = self.embedding(speaker)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean) if self.training else mean
        x = F.relu(self.norm(self.stem(z)))
        for i, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            y = self.adapt(reflected(x, first), speaker, 2 * i)
            y = reflected(y, second)
            if second.out_channels > WIDTH:
                y = y.reshape(len(y), WIDTH, 2, -1).transpose(2, 3).flatten(2)
                x = F.interpolate(x, scale_factor=2.0)
            x = x + self.adapt(y, speaker, 2 * i + 1)
        return self.head(x), mean, log_variance

    def adapt(self, x: Tensor, speaker: Tensor, i: int) -> Tensor:
        scale, shift = self.affine[i](speaker)[:, :, None].chunk(2, dim=1)
        return F.relu(self.norm(x) * scale + shift)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    theirs, ours = AdaINVC(80), ConversionTask(ConversionConfig(output="", data={"train": "", "dev": ""}), speakers=64)
    optimizers = [torch.optim.Adam(m.parameters()) for m in (theirs, ours.model, ours.discriminator)]
    mel, samples = torch.randn(BATCH, 80, FRAMES), 0.1 * torch.randn(BATCH // 4, 4, FRAMES * 256)
    batch = {
        "samples": samples,
        "bandwidth": torch.full((BATCH // 4, 4), 8000.0),
        "speaker": torch.arange(BATCH // 4),
    }

    def their_step() -> None:
        decoded, mean, log_variance = theirs(mel, mel)
        kl = (log_variance.exp() - 1 - log_variance + mean.square()).mean()
        ((decoded - mel).abs().mean() + kl).backward()
        finish(theirs, optimizers[0])

    def our_step(step: int) -> None:
        totals, _ = ours(batch, step)
        for name, total in totals.items():
            total.backward(inputs=ours.parameter_groups()[name], retain_graph=name == "discriminator")
        finish(ours.model, optimizers[1])
        if "discriminator" in totals:
            finish(ours.discriminator, optimizers[2])
        ours.after_step()

    def finish(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    print(f"training, {arguments.threads} threads, {BATCH} × {FRAMES} frames")
    for step, what in ((0, "as it begins"), (10**6, "with conversions and a discriminator")):
        seconds = compare(their_step, lambda step=step: our_step(step), arguments.rounds)
        rates = [BATCH * FRAMES / s for s in seconds]
        print(f"  AdaIN-VC, {size(theirs):.1f} M parameters: {rates[0]:8,.0f} frames/s")
        found = f"{rates[1]:8,.0f} frames/s   {rates[1] / rates[0]:.2f} ×, {what}"
        print(f"  vcvae,    {size(ours.model):.1f} M parameters: {found}")

    theirs, model = AdaINVC(512).eval(), DisentanglingVAE().eval()
    mels = torch.randn(1, 512, 800), torch.randn(1, 80, 864)  # 10 s of 12.5 ms and of 11.6 ms frames
    with torch.inference_mode():
        voice = model.voice(mels[1])
        seconds = compare(
            lambda: theirs(mels[0], mels[0]),
            lambda: model.convert(mels[1], model.voice(mels[1])),
            arguments.rounds,
        )
        alone = compare(lambda: None, lambda: model.convert(mels[1], voice), arguments.rounds)[1]
    print(f"mel → mel of 10 s from 10 s of the target, {arguments.threads} threads")
    print(f"  AdaIN-VC, {size(theirs):.1f} M parameters: {1e3 * seconds[0]:6.1f} ms")
    print(f"  vcvae,    {size(model):.1f} M parameters: {1e3 * seconds[1]:6.1f} ms   {seconds[0] / seconds[1]:.2f} ×")
    print(f"  vcvae, the target's voice valid_bands:   {1e3 * alone:6.1f} ms")


def compare(first, second, rounds: int) -> tuple[float, float]:
    """Median seconds of each, measured in turns."""
    times = ([], [])
    for _ in range(rounds + 2):
        for call, seconds in zip((first, second), times, strict=True):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
    return tuple(statistics.median(seconds[2:]) for seconds in times)


def size(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


if __name__ == "__main__":
    main()
