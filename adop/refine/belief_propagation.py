"""A label for each group of points that the photos find likely and that its neighbours share, by belief propagation."""

from __future__ import annotations

import torch
from torch import Tensor

SWEEPS = 20  # of messages between neighbours
DAMPING = 0.5  # share of the message before in each
SIDES = 6  # of a group; side (d + 3) % 6 is across from side d, see `PointGroups.beside`


def min_sum_labels(
    unlikely: Tensor, beside: Tensor, quarrel: float, motions: Tensor | None = None, apart: float = 1.0
) -> Tensor:
    """Return [K] the label of each group, so that the sum of what is unlikely and of the quarrels between neighbours is
    about the smallest.

    Args:
        unlikely: [K, L] nats; infinite where a group has fewer labels.
        beside: [K, 6] neighbours as `PointGroups.beside` has them.
        quarrel: nats between neighbours that differ.
        motions: [K, L, 3] what the labels of each group stand for: neighbours differ by the distance between theirs, in
            full from `apart`. Without it all groups have the same labels, and neighbours differ wholly or not at all.

    Source: min-sum belief propagation with truncated linear costs (Felzenszwalb and Huttenlocher 2006).
    """
    heard = unlikely.new_zeros(SIDES, *unlikely.shape)
    there, neighbour = (beside >= 0)[..., None], beside.clamp_min(0)
    gaps = [_gaps(motions, neighbour[:, side], apart) for side in range(SIDES)]
    for _ in range(SWEEPS):
        belief = unlikely + heard.sum(0)
        told = torch.empty_like(heard)
        for side in range(SIDES):
            # What the neighbour knows but from this group.
            other = (belief - heard[(side + SIDES // 2) % SIDES])[neighbour[:, side]]
            other = other - other.amin(1, keepdim=True)
            gap = gaps[side]
            if gap is not None:
                other = (other[:, None] + quarrel * gap).amin(2)
            told[side] = torch.where(there[:, side], other.clamp_max(quarrel), 0.0)
        heard = DAMPING * heard + (1 - DAMPING) * told
    return (unlikely + heard.sum(0)).argmin(1)


def _gaps(motions: Tensor | None, neighbour: Tensor, apart: float) -> Tensor | None:
    """Return [K, L, L] how far each label's motion is from each of a neighbour's, 1 from `apart`."""
    if motions is None:
        return None
    return (torch.cdist(motions, motions[neighbour]) / apart).clamp_max(1)


def nearby_labels(own: Tensor, beside: Tensor, most: int, hops: int) -> Tensor:
    """Return [K, most] the labels that groups within some hops have, nearest first, so the own [K] is the first; -1 where
    there are no more."""
    labels, distance = own[:, None], torch.zeros(len(own), 1, dtype=torch.long, device=own.device)
    far = hops + 1
    there, neighbour = (beside >= 0)[..., None], beside.clamp_min(0)
    for _ in range(hops):
        around = torch.where(there, labels[neighbour], -1).flatten(1)
        one_more = torch.where(around >= 0, distance[neighbour].flatten(1) + 1, far)
        labels, distance = torch.cat((labels, around), dim=1), torch.cat((distance, one_more), dim=1)
        # Sorted by label, then the nearest of each, then by distance.
        order = (labels * (far + 1) + distance).argsort(dim=1)
        labels, distance = labels.gather(1, order), distance.gather(1, order)
        distance[:, 1:][labels[:, 1:] == labels[:, :-1]] = far
        order = distance.argsort(dim=1, stable=True)[:, :most]
        labels, distance = labels.gather(1, order), distance.gather(1, order)
        labels = torch.where(distance < far, labels, -1)
    return labels
