"""The commands that use a model's parts: vocode, encode, decode and denoise."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from vcvae.cli.batch import Job, read_batch
from vcvae.cli.console import progress_bar, progress_bars, say, say_written
from vcvae.cli.options import (
    ON_CPU,
    Device,
    Force,
    Model,
    Output,
    Vocoder,
    VocoderSeed,
    model_name,
    non_empty_path,
    output_path,
    refuse_ignored,
    source_path,
    vocoder_seed,
)
from vcvae.defaults import CODE_BITS
from vcvae.errors import VcvaeError, check_absent
from vcvae.progress import Progress


class Kind(str, Enum):
    """What `vcvae encode` writes."""

    speaker = "speaker"
    content = "content"
    mel = "mel"
    code = "code"


def vocode(
    source: Annotated[
        Path,
        typer.Argument(
            help="A recording, or - for standard input; a mel (.npy); or a folder of recordings.", parser=source_path
        ),
    ],
    output: Output = None,
    vocoder: Vocoder = None,
    device: Device = "auto",
    seed: VocoderSeed = None,
    force: Force = False,
) -> None:
    """Copy synthesis: compute the mel of SOURCE and synthesize it, to test the vocoder alone."""
    seed = vocoder_seed(seed, vocoder)
    with progress_bar("finding files") as progress:
        batch = read_batch(source, output, "copy")
        batch.check_output(force, progress)
    from vcvae import audio
    from vcvae.convert.copy_synthesis import vocode_pieces
    from vcvae.environment import find_device
    from vcvae.vocoder import load_vocoder

    with progress_bars() as add_bar:
        progress, part = add_bar("vocoding"), add_bar("")
        loaded = load_vocoder(vocoder, seed=seed).to(find_device(device)).eval()

        def vocode_one(job: Job, progress: Progress) -> None:
            rate = loaded.mel_config.sample_rate
            audio.write_pieces(job.output, vocode_pieces(job.source, loaded, progress=progress), rate, force=force)

        failures = batch.run(vocode_one, progress, part)
    batch.report(failures, "vocoded")


def encode(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="speaker: the speaker latent, (speaker_latent,); content: the mean of the content latent, "
            "(content_latent, frames); mel: the log-mel spectrogram, (n_mels, frames); code: an auto-encoder's latent, "
            "which `vcvae decode` synthesizes."
        ),
    ],
    source: Annotated[Path, typer.Argument(help="A recording, or - for standard input.", parser=source_path)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .npy file; for a code, a .npz file.", parser=non_empty_path)
    ],
    bits: Annotated[
        int | None, typer.Option(help=f"Bits for each value of a code: 8 or 16; by default, {CODE_BITS}.")
    ] = None,
    model: Model = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Write the speaker latent, content latent or mel of a recording, float32, or its code."""
    if kind is Kind.code:
        refuse_ignored({"--device": device not in ON_CPU}, "for a code, which is made on the CPU")
        _write_code(source, output, CODE_BITS if bits is None else bits, model, force)
    else:
        refuse_ignored({"--bits": bits}, "for an array; it is that of a code")
        _write_array(kind, source, output, model, device, force)


def _write_array(kind: Kind, source: Path, output: Path, model: str | None, device: str, force: bool) -> None:
    if output.suffix != ".npy":
        raise VcvaeError(f"{output}: an array is written as .npy; end the name so.")
    check_absent(output, force)
    from vcvae.array_files import write_npy
    from vcvae.convert.encoder import Encoder

    with progress_bar("encoding") as progress:
        encoder = Encoder.from_pretrained(model, device=device)
        if kind is Kind.speaker:
            pieces = iter([encoder.speaker(source, progress=progress)])
        else:
            encode_pieces = encoder.content_pieces if kind is Kind.content else encoder.mel_pieces
            pieces = encode_pieces(source, progress=progress)
        shape = write_npy(output, pieces)
    say(f"{output}: float32 {shape}")


def _write_code(source: Path, output: Path, bits: int, model: str | None, force: bool) -> None:
    from vcvae.convert import codec
    from vcvae.models import load_autoencoder

    codec.check_output(output, bits, force)
    with progress_bar("encoding") as progress:
        encoder = load_autoencoder(model)
        code = codec.encode_recording(encoder, source, progress=progress)
        progress(0, None, "writing")
        codec.write(output, code, bits=bits, force=force)
    rate = codec.bits_per_second(code, bits, encoder.config.mel.frame_rate) / 1000
    say(f"{output}: {code.values.shape[0]} × {code.values.shape[1]} values of {bits} bits, {rate:.2f} kbit/s")


def decode(
    source: Annotated[Path, typer.Argument(help="A .npz file that `vcvae encode code` wrote.", parser=non_empty_path)],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="WAV or FLAC file, or - for standard output.", parser=output_path),
    ],
    model: Annotated[
        str,
        typer.Option(help="Folder or Hugging Face repository of the auto-encoder that encoded it.", parser=model_name),
    ],
    vocoder: Vocoder = None,
    seed: VocoderSeed = None,
    force: Force = False,
) -> None:
    """Synthesize speech from a code."""
    seed = vocoder_seed(seed, vocoder)
    from vcvae import audio
    from vcvae.convert import codec
    from vcvae.convert.copy_synthesis import synthesize_pieces
    from vcvae.models import load_autoencoder
    from vcvae.vocoder import load_vocoder

    audio.check_output(output, force)
    with progress_bar("decoding") as progress:
        decoder = load_autoencoder(model)
        config = decoder.config.mel
        mels = codec.decode_pieces(decoder, codec.read(source), progress=progress)
        loaded = load_vocoder(vocoder, config, seed=seed).for_predicted_mels().eval()
        audio.write_pieces(output, synthesize_pieces(loaded, mels), config.sample_rate, force=force)
    say_written(output)


def denoise(
    source: Annotated[
        Path, typer.Argument(help="A recording, or - for standard input; or a folder.", parser=source_path)
    ],
    model: Annotated[
        str, typer.Option(help="Folder or Hugging Face repository of a denoising auto-encoder.", parser=model_name)
    ],
    output: Output = None,
    vocoder: Vocoder = None,
    seed: VocoderSeed = None,
    force: Force = False,
) -> None:
    """Remove noise and reverberation from SOURCE by a denoising auto-encoder."""
    seed = vocoder_seed(seed, vocoder)
    with progress_bar("finding files") as progress:
        batch = read_batch(source, output, "clean")
        batch.check_output(force, progress)
    from vcvae import audio
    from vcvae.convert.copy_synthesis import denoise_pieces
    from vcvae.models import load_autoencoder
    from vcvae.vocoder import load_vocoder

    with progress_bars() as add_bar:
        progress, part = add_bar("denoising"), add_bar("")
        denoiser = load_autoencoder(model, denoising=True)
        config = denoiser.config.mel
        loaded = load_vocoder(vocoder, config, seed=seed).for_predicted_mels().eval()

        def denoise_one(job: Job, progress: Progress) -> None:
            clean = denoise_pieces(job.source, denoiser, loaded, progress=progress)
            audio.write_pieces(job.output, clean, config.sample_rate, force=force)

        failures = batch.run(denoise_one, progress, part)
    batch.report(failures, "denoised")
