"""Saving, loading and fetching models: safetensors and one JSON file, in a folder or a Hugging Face repository."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import (
    ModelCard,
    ModelHubMixin,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import Self

from vcvae.config import Config
from vcvae.documents import read_json
from vcvae.errors import VcvaeError, check_folder, disk_errors, reason, replacing, shorten
from vcvae.models.quantize import dequantize, quantize_int8
from vcvae.models.tensor_files import read_tensors, refusing
from vcvae.torch_state import own_torch_state

M = TypeVar("M", bound=nn.Module)

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"

CONNECT_SECONDS = 5.0  # within which a server must answer


class PretrainedModel(nn.Module, ModelHubMixin):
    """A module that is constructed from one configuration, and is saved and loaded together with it.

    Subclasses name the configuration's class: `class Model(PretrainedModel, config=ModelConfig)`.
    """

    config_class: type[Config]

    def __init_subclass__(cls, *, config: type[Config] | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if config is not None:
            cls.config_class = config

    def _save_pretrained(self, save_directory: Path) -> None:
        weights = {name: value.contiguous().cpu() for name, value in self.state_dict().items()}
        with replacing(save_directory / WEIGHTS) as file:
            file.write(save(weights))
        values = {"class": type(self).__name__, **self.config.model_dump()}
        (save_directory / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
        """The card that `save_pretrained` puts beside the weights where there is no README.md yet."""
        return ModelCard(
            "---\nlibrary_name: vcvae\npipeline_tag: audio-to-audio\n---\n"
            f"# {type(self).__name__}\n\n"
            f"{sum(p.numel() for p in self.parameters()) / 1e6:.2f} M parameters; the sizes and the mel are in "
            f"{CONFIG}. Whoever trained it should add the data, the licence and the figures here.\n"
        )

    def release(self, folder: Path, *, card: str | None = None, small: bool = False) -> None:
        """Save it in float16, or, if `small`, in int8 (`quantize_int8`); with `card`, unless there is a card already.

        Raises:
            VcvaeError: it cannot be written.
        """
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if card and not (folder / CARD).exists():
                (folder / CARD).write_text(card, encoding="utf-8")
            self.half().save_pretrained(folder)
            if small:
                stored = quantize_int8(load_file(folder / WEIGHTS))
                with replacing(folder / WEIGHTS) as file:
                    file.write(save(stored))

    @classmethod
    @own_torch_state()
    def from_pretrained(cls, source: str | Path, **options: Any) -> Self:
        """The model saved in a folder or a Hugging Face repository, in evaluation mode.

        `options` are those of `huggingface_hub.hf_hub_download`, such as `revision` and `local_files_only`.

        Raises:
            VcvaeError: there is no model, or one of another class, or its weights do not fit its configuration.
        """
        kind, values, config_file = describe(source, **options)
        if kind != cls.__name__:
            raise VcvaeError(f"{config_file}: holds {shorten(kind)}, where {cls.__name__} is needed.")
        config = cls.config_class.parse(values, context=str(config_file))
        weights_file = fetch(source, WEIGHTS, **options)
        return build(lambda: cls(config), read_weights(weights_file), path=weights_file, config=CONFIG)


def fingerprint(module: nn.Module) -> str:
    """16 hexadecimal digits of a hash of a module's class and tensors, in float16, in which they are saved."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.half() if tensor.is_floating_point() else tensor
        digest.update(name.encode() + values.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_vacant(folder: Path, force: bool) -> None:
    """Check, before any work is done, that a model can be saved in `folder`.

    Raises:
        VcvaeError: it holds one already, without `force`, or cannot be written to.
    """
    check_folder(folder)
    if (folder / CONFIG).exists() and not force:
        raise VcvaeError(f"{folder}: holds a model already; give --force to overwrite it.")


def describe(source: str | Path, **options: Any) -> tuple[str, dict[str, Any], Path]:
    """The class of a saved model, the values of its configuration, and the path of the configuration file.

    Raises:
        VcvaeError: there is no configuration, or it is not one of a vcvae model.
    """
    file = fetch(source, CONFIG, **options)
    values = read_json(file, advice="give another model")
    kind = values.pop("class", None)
    if not isinstance(kind, str):
        raise VcvaeError(f"{file}: not the configuration of a vcvae model, which names its 'class'.")
    return kind, values, file


def fetch(source: str | Path, name: str, *, give: str = "one that save_pretrained wrote", **options: Any) -> Path:
    """The local path of the file `name` of a folder or of a Hugging Face repository, downloaded if need be.

    `give` ends the message about a folder that lacks the file: what to give instead. `options` are those of
    `huggingface_hub.hf_hub_download`.

    Raises:
        VcvaeError: no such folder or repository, or no such file in it.
    """
    try:
        folder = Path(source).expanduser()
        if folder.is_dir():
            if not (folder / name).is_file():
                raise VcvaeError(f"{source}: no {name} in this folder; give {give}.")
            return folder / name
        if folder.exists():
            raise VcvaeError(f"{source}: a file, not the folder of a model; give {give}.")
        _check_connection(str(source), name, **options)
        return Path(hf_hub_download(str(source), name, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError, RuntimeError) as error:
        raise VcvaeError(
            f"{shorten(str(source), 1000)}: neither a folder nor a repository that could be fetched ({reason(error)})."
        ) from None


def _check_connection(repository: str, name: str, **options: Any) -> None:
    """Raise VcvaeError at once where no server answers; `hf_hub_download` would try for half a minute."""
    places = {key: options[key] for key in ("cache_dir", "revision", "repo_type") if key in options}
    if options.get("local_files_only") or isinstance(try_to_load_from_cache(repository, name, **places), str):
        return
    places.pop("cache_dir", None)
    try:
        get_hf_file_metadata(
            hf_hub_url(repository, name, **places), token=options.get("token"), timeout=CONNECT_SECONDS
        )
    except (HfHubHTTPError, HFValidationError):
        pass  # the server, or the name, is at fault: the download says so
    except Exception as error:  # of whichever HTTP client the library uses
        raise VcvaeError(
            f"{shorten(repository, 1000)}: not a folder, and Hugging Face cannot be reached ({reason(error)}); give a "
            "folder, or connect to the network."
        ) from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file by name, those that `quantize_int8` stored as float32.

    Raises:
        VcvaeError: it is no such file.
    """
    with refusing(path, of="weights in safetensors' format", advice="fetch or export it again"):
        return dequantize(read_tensors(path)[0])


def read_checkpoint(path: Path, *, of: str, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` wrote, by name; those under `key`, where one is given.

    Only tensors are read: no code in the file is run.

    Raises:
        VcvaeError: the file holds something else than `of` (such as "a HiFi-GAN generator").
    """
    try:
        weights: Any = read_saved(path)
    except Exception:  # bytes that are something else can fail in any way
        weights = None
    if key is not None:
        weights = weights.get(key) if isinstance(weights, dict) else None
    if not (isinstance(weights, dict) and all(isinstance(name, str) for name in weights)) or not all(
        isinstance(value, Tensor) and _is_plain(value) for value in weights.values()
    ):
        holds = "weights by name" if key is None else f"{{'{key}': weights}}"
        raise VcvaeError(f"{path}: not {of}; it should hold the authors' {holds}.")
    return weights


def read_saved(path: Path, *, mmap: bool = False) -> Any:
    """What `torch.save` wrote: tensors, on the CPU, and containers of plain values. No code in the file is run.

    Raises:
        Exception: of any kind, where it is no such file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is compressed, which torch.save never does")  # and could unpack to any size
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds its numbers one by one: it is not sparse, quantized or nested, nor one without numbers."""
    is_special = tensor.is_nested or tensor.is_quantized or tensor.is_meta or tensor.layout is not torch.strided
    return not is_special and tensor.dtype in _NUMBERS


_NUMBERS = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
)


class _NoInitialization(TorchFunctionMode):
    """Modules made meanwhile draw no initial weights, which takes a third of the time: the saved ones replace them."""

    def __torch_function__(
        self, function: Callable, types: Any, arguments: tuple = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return options["tensor"]
        return function(*arguments, **options)


def build(make: Callable[[], M], weights: dict[str, Tensor], *, path: Path, config: str) -> M:
    """The module that `make` makes, in evaluation mode, with the weights read from `path`.

    Names and shapes are compared before the module takes any memory. The global random state stays as it is.

    Raises:
        VcvaeError: as `check_weights` does.
    """
    with _NoInitialization():
        with torch.device("meta"):
            check_weights(weights, make().state_dict(), path=path, config=config)
        with own_torch_state():
            model = make()
    model.load_state_dict(weights)
    return model.eval()


def check_weights(
    weights: dict[str, Tensor],
    expected: dict[str, Tensor],
    *,
    path: Path,
    config: str,
    advice: str | None = None,
) -> None:
    """Check that the weights read from `path` have the names, shapes and types of those that `config` describes.

    `advice` ends the message: what to do.

    Raises:
        VcvaeError: a weight that is absent, of another shape or type, unknown, or not finite.
    """
    for name, weight in weights.items():
        if not (_is_plain(weight) or weight.is_complex()):
            raise VcvaeError(
                f"{path}: '{shorten(name)}' is no plain tensor of numbers; {advice or 'give other weights'}."
            )
    for name in sorted(weights.keys() | expected.keys()):
        here = tuple(weights[name].shape) if name in weights else "absent"
        there = tuple(expected[name].shape) if name in expected else "absent"
        if here != there:
            raise VcvaeError(
                f"{path}: '{shorten(name)}' is {here} here and {there} by {config}; "
                f"{advice or f'use the {config} that it was trained with'}."
            )
        weight, like = weights[name], expected[name]
        if weight.is_complex() or weight.is_floating_point() != like.is_floating_point():
            raise VcvaeError(
                f"{path}: '{name}' is of {weight.dtype}, not {like.dtype}; {advice or 'give other weights'}."
            )
        if not weight.isfinite().all():
            raise VcvaeError(
                f"{path}: '{name}' holds NaN or infinite values, so training failed or the file is damaged; "
                f"{advice or 'give other weights'}."
            )
