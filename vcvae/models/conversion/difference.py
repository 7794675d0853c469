"""What a module has learned, as a difference to its weights: small enough to be kept for each voice."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vcvae.models.quantize import dequantize, quantize_int8

MAX_DIFFERENCE_BYTES = 2_000_000  # of a difference; with the largest reference a voice then takes less than 4 MB
SCALE_BYTES = 4  # of one component: two scales in float16
NEGLIGIBLE = 1e-5  # of the largest singular value: what rounding leaves of a matrix of lower rank
LEFT, RIGHT = ".left", ".right"  # a matrix is stored as the product of two, at its name and these


@dataclass(frozen=True, eq=False)
class WeightDifference:
    """Differences to weights of a module, by name: vectors as they are, matrices as products of two narrow ones.

    Args:
        vectors: name → difference, of the weight's shape.
        matrices: name → (left, right), (rows, rank) and (rank, columns): the difference is their product.
    """

    vectors: dict[str, Tensor]
    matrices: dict[str, tuple[Tensor, Tensor]]
    _changed: WeakKeyDictionary[nn.Module, nn.Module] = field(default_factory=WeakKeyDictionary, repr=False)

    @classmethod
    def between(cls, before: nn.Module, after: nn.Module, *, max_bytes: int = MAX_DIFFERENCE_BYTES) -> WeightDifference:
        """The difference of two modules of one architecture, in at most `max_bytes` when it is stored.

        Of all matrices together those singular components are kept that matter most, each measured by the square of
        its singular value per byte, so that the Frobenius norm of what is left out is small.
        """
        weights = dict(before.named_parameters())
        deltas = {name: weight.detach() - weights[name].detach() for name, weight in after.named_parameters()}
        deltas = {name: delta.float().cpu() for name, delta in deltas.items() if delta.any()}
        vectors = {name: delta for name, delta in deltas.items() if delta.ndim != 2}
        decomposed = {name: torch.linalg.svd(d, full_matrices=False) for name, d in deltas.items() if d.ndim == 2}
        return cls._truncated(vectors, decomposed, max_bytes)

    @staticmethod
    def fit_together(differences: Iterable[WeightDifference]) -> bool:
        """Whether their weights of one name have one shape, as differences to one module have."""
        shapes: dict[str, tuple[int, ...]] = {}
        return all(
            shapes.setdefault(name, difference.shape(name)) == difference.shape(name)
            for difference in differences
            for name in (*difference.vectors, *difference.matrices)
        )

    @classmethod
    def mix(
        cls, differences: Sequence[WeightDifference], weights: Sequence[float], *, max_bytes: int = MAX_DIFFERENCE_BYTES
    ) -> WeightDifference:
        """The weighted sum of differences to one module, in at most `max_bytes` when it is stored, as by `between`."""
        vectors: dict[str, Tensor] = {}
        products: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for difference, weight in zip(differences, weights, strict=True):
            for name, vector in difference.vectors.items():
                vectors[name] = vectors.get(name, 0) + weight * vector
            for name, (left, right) in difference.matrices.items():
                products.setdefault(name, []).append((weight * left, right))
        decomposed = {}
        for name, pairs in products.items():
            # A sum of products is the product of the joined ones, whose decomposition is that of a small matrix.
            left, left_part = torch.linalg.qr(torch.cat([left for left, _ in pairs], dim=1))
            right, right_part = torch.linalg.qr(torch.cat([right for _, right in pairs]).mT)
            inner, values, outer = torch.linalg.svd(left_part @ right_part.mT, full_matrices=False)
            decomposed[name] = (left @ inner, values, outer @ right.mT)
        return cls._truncated(vectors, decomposed, max_bytes)

    @classmethod
    def _truncated(
        cls, vectors: dict[str, Tensor], decomposed: Mapping[str, tuple[Tensor, Tensor, Tensor]], max_bytes: int
    ) -> WeightDifference:
        """The difference of vectors and of matrices' singular value decompositions, in at most `max_bytes`."""
        ranks = _choose_ranks(decomposed, max_bytes - sum(2 * vector.numel() for vector in vectors.values()))
        matrices = {}
        for name, rank in ranks.items():
            left, values, right = decomposed[name]
            scale = values[:rank].sqrt()
            matrices[name] = ((left[:, :rank] * scale).contiguous(), (scale[:, None] * right[:rank]).contiguous())
        return cls(vectors, matrices)

    def of(self, name: str) -> Tensor:
        """The difference of one weight."""
        if name in self.vectors:
            return self.vectors[name]
        left, right = self.matrices[name]
        return left @ right

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the difference of one weight."""
        if name in self.vectors:
            return self.vectors[name].shape
        left, right = self.matrices[name]
        return (len(left), right.shape[1])

    def applied_to(self, module: nn.Module) -> nn.Module:
        """The module with the difference added; it shares all other weights with `module`, which stays as it is.

        It is made once for each module, and kept as long as both exist.

        Raises:
            ValueError: the difference is of another architecture.
        """
        if module not in self._changed:
            with torch.inference_mode(False), torch.no_grad():  # as usable afterwards as the module's own weights
                self._changed[module] = self._apply_to(module)
        return self._changed[module]

    def _apply_to(self, module: nn.Module) -> nn.Module:
        weights = dict(module.named_parameters())
        shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
        changed = copy.deepcopy(module, shared)
        for name in (*self.vectors, *self.matrices):
            shape = self.shape(name)  # before a product of narrow matrices takes memory
            if name not in weights or shape != weights[name].shape:
                raise ValueError(f"the difference has a weight '{name}' {tuple(shape)}, which the module lacks")
            delta = self.of(name)
            owner, _, attribute = name.rpartition(".")
            value = weights[name] + delta.to(weights[name])
            setattr(changed.get_submodule(owner), attribute, nn.Parameter(value, requires_grad=False))
        return changed

    def to(self, device: torch.device) -> WeightDifference:
        """Move to a device."""
        vectors = {name: vector.to(device) for name, vector in self.vectors.items()}
        matrices = {name: (left.to(device), right.to(device)) for name, (left, right) in self.matrices.items()}
        return WeightDifference(vectors, matrices)

    def summary(self) -> str:
        """How much it is: numbers of weights and of values."""
        values = sum(vector.numel() for vector in self.vectors.values())
        values += sum(left.numel() + right.numel() for left, right in self.matrices.values())
        return f"{len(self.vectors) + len(self.matrices)} weights changed, by {values / 1e6:.2f} M values"

    def stored(self) -> dict[str, Tensor]:
        """As the tensors of a file: vectors in float16, the narrow matrices in int8 (`quantize_int8`)."""
        tensors = dict(self.vectors)
        for name, (left, right) in self.matrices.items():
            tensors |= {name + LEFT: left.mT, name + RIGHT: right}  # each row is a component, and has a scale
        return quantize_int8({name: tensor.half().contiguous().cpu() for name, tensor in tensors.items()})

    @classmethod
    def from_stored(cls, tensors: Mapping[str, Tensor]) -> WeightDifference:
        """The difference that `stored` gave.

        Raises:
            ValueError: tensors that belong to no difference.
        """
        values = {name: value.float() for name, value in dequantize(dict(tensors)).items()}
        vectors, matrices = {}, {}
        for name, value in values.items():
            if name.endswith(LEFT):
                base = name.removesuffix(LEFT)
                right = values.get(base + RIGHT)
                if right is None or value.ndim != 2 or right.ndim != 2 or len(value) != len(right):
                    raise ValueError(f"'{name}' has no counterpart")
                matrices[base] = (value.mT.contiguous(), right)
            elif name.endswith(RIGHT):
                if name.removesuffix(RIGHT) + LEFT not in values:
                    raise ValueError(f"'{name}' has no counterpart")
            else:
                vectors[name] = value
        return cls(vectors, matrices)


def _choose_ranks(decomposed: Mapping[str, tuple[Tensor, Tensor, Tensor]], max_bytes: int) -> dict[str, int]:
    """Of each singular value decomposition the number of components to keep, in at most `max_bytes` of int8."""
    components = []
    for name, (left, values, right) in decomposed.items():
        cost = len(left) + right.shape[1] + SCALE_BYTES
        for value in values[values > NEGLIGIBLE * values[0]].tolist():
            components.append((value**2 / cost, cost, name))
    ranks: dict[str, int] = {}
    for _, cost, name in sorted(components, reverse=True):
        max_bytes -= cost
        if max_bytes < 0:
            break
        ranks[name] = ranks.get(name, 0) + 1
    return ranks
