"""Labels for groups of points that are cheap by the data and smooth between neighbours, by belief propagation."""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 20
DAMPING = 0.5  # share of the previous message in each new one
SIDES = 6  # neighbours of a group; side (d + 3) % 6 is opposite to side d, see `PointGroups.neighbours`


def min_sum_labels(
    data_cost: Tensor,
    neighbours: Tensor,
    smoothness: float,
    motions: Tensor | None = None,
    truncation: float = 1.0,
) -> Tensor:
    """Return the label [K] of each group that about minimises data costs plus smoothness costs between neighbours.

    Args:
        data_cost: [K, L] nats; infinite where a group has fewer labels.
        neighbours: [K, 6] as in `PointGroups.neighbours`.
        smoothness: nats, the largest cost of one pair of neighbours.
        motions: [K, L, 3] that each group's labels stand for: the smoothness cost grows linearly with the distance
            between two motions. None: all groups have the same labels, and any two different ones cost `smoothness`.
        truncation: distance between motions from which the smoothness cost no longer grows.

    Source: min-sum belief propagation with truncated linear costs (Felzenszwalb and Huttenlocher 2006).
    """
    # [6, K, L] that each group received from each side.
    messages = data_cost.new_zeros(SIDES, *data_cost.shape)
    exists, neighbour = (neighbours >= 0)[..., None], neighbours.clamp_min(0)
    distances = [_label_distances(motions, neighbour[:, side], truncation) for side in range(SIDES)]
    for _ in range(ITERATIONS):
        belief = data_cost + messages.sum(0)
        received = torch.empty_like(messages)
        for side in range(SIDES):
            # The neighbour's belief without what this group told it.
            message = (belief - messages[(side + SIDES // 2) % SIDES])[neighbour[:, side]]
            message = message - message.amin(1, keepdim=True)
            distance = distances[side]
            if distance is not None:
                message = (message[:, None] + smoothness * distance).amin(2)
            received[side] = torch.where(exists[:, side], message.clamp_max(smoothness), 0.0)
        messages = DAMPING * messages + (1 - DAMPING) * received
    return (data_cost + messages.sum(0)).argmin(1)


def _label_distances(motions: Tensor | None, neighbour: Tensor, truncation: float) -> Tensor | None:
    """Return [K, L, L] in [0, 1], the distance of each label's motion from each of a neighbour's [K], truncated."""
    if motions is None:
        return None
    return (torch.cdist(motions, motions[neighbour]) / truncation).clamp_max(1)


def nearby_labels(labels: Tensor, neighbours: Tensor, most: int, radius: int) -> Tensor:
    """Return [K, most] the distinct labels of the groups around each group, nearest first; -1 where there are no more.

    Args:
        labels: [K] of each group; its own comes first.
        neighbours: [K, 6] as in `PointGroups.neighbours`.
        most: labels per group.
        radius: greatest distance, in steps from neighbour to neighbour.
    """
    found = labels[:, None]
    distance = torch.zeros(len(labels), 1, dtype=torch.long, device=labels.device)
    too_far = radius + 1
    exists, neighbour = (neighbours >= 0)[..., None], neighbours.clamp_min(0)
    for _ in range(radius):
        added = torch.where(exists, found[neighbour], -1).flatten(1)
        added_distance = torch.where(added >= 0, distance[neighbour].flatten(1) + 1, too_far)
        found, distance = torch.cat((found, added), dim=1), torch.cat((distance, added_distance), dim=1)
        # Sort by label, then distance; drop all but the nearest of each label; sort by distance.
        order = (found * (too_far + 1) + distance).argsort(dim=1)
        found, distance = found.gather(1, order), distance.gather(1, order)
        distance[:, 1:][found[:, 1:] == found[:, :-1]] = too_far
        order = distance.argsort(dim=1, stable=True)[:, :most]
        found, distance = found.gather(1, order), distance.gather(1, order)
        found = torch.where(distance < too_far, found, -1)
    return found
