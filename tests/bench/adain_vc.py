"""Speed against AdaIN-VC, side by side: training frames per second, and mel → mel of 10 s. By hand:

    python tests/bench/adain_vc.py [--threads 2]

AdaIN-VC is implemented here after its paper (Chou et al. 2019, arXiv:1904.05742) with the published sizes: 80 bands
(4.9 M parameters) for training, 512 bands (9 M) for conversion. Ours is the released model: for training its sizes
without the postfilter, which is trained separately; for conversion its weights, with the postfilter. The training step
of AdaIN-VC is the network's alone; ours is the whole step, with mel, F0 tracking, perturbation and optimizer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcvae.models import load_model
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
        self.mean = nn.Conv1d(WIDTH, WIDTH, 1)
        self.log_variance = nn.Conv1d(WIDTH, WIDTH, 1)
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
    parser.add_argument("--conversion-only", action="store_true", help="leave out the training steps")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    if not arguments.conversion_only:
        time_training(arguments.threads, arguments.rounds)
    time_conversion(arguments.threads, arguments.rounds)


def time_training(threads: int, rounds: int) -> None:
    sizes = load_model().config.model_copy(update={"postfilter_blocks": 0})
    config = ConversionConfig(output="", data={"train": "", "dev": ""}, model=sizes)
    adain_vc = AdaINVC(80)
    ours = ConversionTask(config, speakers=64)
    adain_vc_optimizer = torch.optim.Adam(adain_vc.parameters())
    model_optimizer = torch.optim.Adam(ours.model.parameters())
    discriminator_optimizer = torch.optim.Adam(ours.discriminator.parameters())
    mel = torch.randn(BATCH, 80, FRAMES)
    batch = {
        "samples": 0.1 * torch.randn(BATCH // 4, 4, FRAMES * 256),
        "bandwidth": torch.full((BATCH // 4, 4), 8000.0),
        "speaker": torch.arange(BATCH // 4),
    }

    def adain_vc_step() -> None:
        decoded, mean, log_variance = adain_vc(mel, mel)
        kl = (log_variance.exp() - 1 - log_variance + mean.square()).mean()
        ((decoded - mel).abs().mean() + kl).backward()
        update(adain_vc, adain_vc_optimizer)

    def our_step(step: int) -> None:
        totals, _ = ours(batch, step)
        for name, total in totals.items():
            total.backward(inputs=ours.parameter_groups()[name], retain_graph=name == "discriminator")
        update(ours.model, model_optimizer)
        if "discriminator" in totals:
            update(ours.discriminator, discriminator_optimizer)
        ours.after_step()

    def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    print(f"training, {threads} threads, {BATCH} × {FRAMES} frames")
    for step, phase in ((0, "as it begins"), (10**6, "with conversions and a discriminator")):
        adain_vc_seconds, our_seconds = compare(adain_vc_step, lambda step=step: our_step(step), rounds)
        adain_vc_rate = BATCH * FRAMES / adain_vc_seconds
        our_rate = BATCH * FRAMES / our_seconds
        print(f"  AdaIN-VC, {millions(adain_vc):.1f} M parameters: {adain_vc_rate:8,.0f} frames/s")
        ratio = f"{our_rate / adain_vc_rate:.2f} ×, {phase}"
        print(f"  vcvae,    {millions(ours.model):.1f} M parameters: {our_rate:8,.0f} frames/s   {ratio}")


def time_conversion(threads: int, rounds: int) -> None:
    adain_vc, model = AdaINVC(512).eval(), load_model().eval()
    adain_vc_mel = torch.randn(1, 512, 800)  # 10 s in frames of 12.5 ms
    mel = torch.randn(1, 80, 864)  # 10 s in frames of 11.6 ms
    with torch.inference_mode():
        voice = model.voice(mel)
        adain_vc_seconds, our_seconds = compare(
            lambda: adain_vc(adain_vc_mel, adain_vc_mel), lambda: model.convert(mel, model.voice(mel)), rounds
        )
        _, without_target = compare(lambda: None, lambda: model.convert(mel, voice), rounds)
    print(f"mel → mel of 10 s from 10 s of the target, {threads} threads")
    print(f"  AdaIN-VC, {millions(adain_vc):.1f} M parameters: {1e3 * adain_vc_seconds:6.1f} ms")
    ratio = f"{adain_vc_seconds / our_seconds:.2f} ×"
    print(f"  vcvae,    {millions(model):.1f} M parameters: {1e3 * our_seconds:6.1f} ms   {ratio}")
    print(f"  vcvae, with the target encoded before:   {1e3 * without_target:6.1f} ms")


def compare(first: Callable, second: Callable, rounds: int) -> tuple[float, float]:
    """Median seconds of each, measured in turns."""
    first_seconds, second_seconds = [], []
    for _ in range(rounds + 2):  # the first two warm up
        for call, seconds in ((first, first_seconds), (second, second_seconds)):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return statistics.median(first_seconds[2:]), statistics.median(second_seconds[2:])


def millions(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


if __name__ == "__main__":
    main()
