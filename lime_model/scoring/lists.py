"""What a scorer takes and gives back, whoever computes: exclusions, eligibility, lists."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lime_model.config import require
from lime_model.packed import groups_of
from schemas.errors import BadNumberError, InputError


@dataclass(frozen=True)
class Excluded:
    """Candidate positions each user may not get, ascending within a user (CSR)."""

    offsets: Tensor  # [B + 1] int64
    positions: Tensor  # [pairs] int64


@dataclass(frozen=True)
class Eligible:
    """Who may be listed for whom: one bitset a class of users, and each user's class."""

    masks: Tensor  # [classes, groups * 2] uint8: bit i of byte j is candidate 8 j + i, 0 past the last candidate
    class_of: Tensor  # [B] int64


@dataclass(frozen=True)
class TopK:
    """Lists, best first; a list shorter than K is padded with position -1 and score 0."""

    positions: Tensor  # [B, K] int64
    scores: Tensor  # [B, K] float32
    count: Tensor  # [B] int64


class Scorer(Protocol):
    """Built once per task on a candidate cache, called per batch of users."""

    @property
    def numerics_id(self) -> str:
        """What decides the bits of a score."""

    def top_k(self, P: Tensor, excluded: Excluded, eligible: Eligible) -> TopK:
        """Links [B, L, d] -> the K best eligible, not excluded candidates of B users, ties by position.

        Raises BadNumberError where links are not finite or so large that a score could overflow, InputError where
        the parts do not fit together.
        """


def check_request(shape: tuple[int, ...], P: Tensor, excluded: Excluded, eligible: Eligible, count: int) -> None:
    """Raise InputError unless B agrees everywhere, links are [B, *shape], positions ascend within 0..count - 1.

    By numpy: torch's operations start so slowly, the first ones after a pause above all, that a short call shows it.
    """
    B, bytes_ = P.shape[0], groups_of(count) * 2
    _expect("links", f"[{B}, {shape[0]}, {shape[1]}]", P.shape == (B, *shape), list(P.shape))
    _expect("offsets", f"[{B + 1}]", excluded.offsets.shape == (B + 1,), list(excluded.offsets.shape))
    masks, class_of = eligible.masks, eligible.class_of
    _expect("masks", f"[classes, {bytes_}]", masks.dim() == 2 and masks.shape[1] == bytes_, list(masks.shape))
    _expect("class_of", f"[{B}]", class_of.shape == (B,), list(class_of.shape))
    if B:
        low, high = _range_of(class_of.numpy())
        _expect("class_of", f"0..{len(masks) - 1}", low >= 0 and high < len(masks), [low, high])
    _check_positions(excluded, count)


def _check_positions(excluded: Excluded, count: int) -> None:
    offsets, positions = excluded.offsets.numpy(), excluded.positions.numpy()
    rising = bool((np.diff(offsets) >= 0).all()) and offsets[0] == 0 and offsets[-1] == len(positions)
    _expect("offsets", f"rising from 0 to {len(positions)}", rising, offsets[[0, -1]].tolist())
    if not len(positions):
        return
    low, high = _range_of(positions)
    _expect("excluded positions", f"0..{count - 1}", low >= 0 and high < count, [low, high])
    descends = np.diff(positions) <= 0
    starts = offsets[1:-1]  # where another user begins a step down is no fault
    descends[starts[(starts > 0) & (starts < len(positions))] - 1] = False
    _expect("excluded positions", "ascending within a user", not bool(descends.any()), "others")


def _range_of(numbers: NDArray[np.int64]) -> tuple[int, int]:
    return int(numbers.min()), int(numbers.max())


def _expect(what: str, expected: str, holds: bool, found: object) -> None:
    if not holds:
        raise InputError(f"top_k: {what}: expected {expected}, found {found}")


def check_k(k: int) -> None:
    """Raise ConfigError for a list without places."""
    require(k >= 1, "k", "at least 1", k)


def unbounded(user: int) -> BadNumberError:
    """What a scorer raises for links with which a score could overflow."""
    return BadNumberError(f"links of user row {user}: expected numbers that no score can overflow with, found others")


def unpack(masks: Tensor, first: int, count: int) -> Tensor:
    """Bitsets [n, bytes] -> [n, count] bool of the candidates from `first`, a multiple of 8."""
    part = masks[:, first // 8 : -(-(first + count) // 8)].int()
    bits = (part[:, :, None] >> torch.arange(8, device=masks.device)) & 1
    return bits.flatten(1)[:, :count].bool()


def pack(allowed: Tensor) -> Tensor:
    """[classes, C] bool -> bitsets [classes, groups * 2], as `Eligible` holds them."""
    classes, count = allowed.shape
    bits = torch.zeros(classes, groups_of(count) * 16, dtype=torch.uint8)
    bits[:, :count] = allowed
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)
    return (bits.view(classes, -1, 8) * weights).sum(-1, dtype=torch.uint8)
