"""Smooth labels, against all possible choices: in a row of groups, which has no cycles, the optimum is found."""

import itertools

import pytest
import torch

from adop.refine.belief_propagation import min_sum_labels, nearby_labels
from adop.refine.point_groups import PointGroups, group_by_voxel

SMOOTHNESS, TRUNCATION = 0.7, 0.5


def row(count: int) -> PointGroups:
    """Return groups side by side, in order."""
    xyz = torch.tensor([0.5, 0.5, 0.5]) + torch.arange(count)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    groups = group_by_voxel(xyz, 1.0)
    assert groups.of_point.tolist() == list(range(count))
    return groups


def best_of_all(data_cost: torch.Tensor, motions: torch.Tensor | None) -> list[int]:
    """Return the cheapest of all choices of labels for a row of groups."""
    count, labels = data_cost.shape

    def cost(choice: tuple[int, ...]) -> float:
        total = sum(float(data_cost[i, label]) for i, label in enumerate(choice))
        for i, (a, b) in enumerate(itertools.pairwise(choice)):
            if motions is None:
                total += SMOOTHNESS * (a != b)
            else:
                total += SMOOTHNESS * min(1.0, float((motions[i, a] - motions[i + 1, b]).norm()) / TRUNCATION)
        return total

    return list(min(itertools.product(range(labels), repeat=count), key=cost))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("own_motions", [False, True])
def test_a_row_gets_the_cheapest_labels(seed: int, own_motions: bool):
    generator = torch.Generator().manual_seed(seed)
    data_cost = 2 * torch.rand(6, 4, generator=generator)
    motions = 0.3 * torch.randn(6, 4, 3, generator=generator) if own_motions else None
    if own_motions:
        data_cost[2, 3] = torch.inf  # a group with one label less
    found = min_sum_labels(data_cost, row(6).neighbours, SMOOTHNESS, motions, TRUNCATION)
    assert found.tolist() == best_of_all(data_cost, motions)


def test_a_group_with_little_data_follows_its_neighbours():
    data_cost = torch.tensor([[0.0, 3.0], [0.2, 0.0], [0.0, 3.0]])
    assert min_sum_labels(data_cost, row(3).neighbours, 0.5).tolist() == [0, 0, 0]
    assert min_sum_labels(data_cost, row(3).neighbours, 0.05).tolist() == [0, 1, 0]


def test_groups_without_neighbours_take_their_cheapest_label():
    data_cost, no_neighbours = torch.rand(10, 5), torch.full((10, 6), -1)
    assert torch.equal(min_sum_labels(data_cost, no_neighbours, SMOOTHNESS), data_cost.argmin(1))


def test_nearby_labels_come_nearest_first():
    labels = torch.tensor([7, 7, 3, 9, 9, 4])
    nearby = nearby_labels(labels, row(6).neighbours, most=3, radius=2)
    assert nearby[:, 0].tolist() == labels.tolist()
    assert [set(found.tolist()) for found in nearby] == [
        {7, 3, -1},
        {7, 3, 9},
        {3, 7, 9},
        {9, 3, 4},
        {9, 4, 3},
        {4, 9, -1},
    ]
    assert nearby[0].tolist() == [7, 3, -1]
