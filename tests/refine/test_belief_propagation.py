"""Labels that neighbours share, against all that could have been chosen: on a row without rings the best is found."""

import itertools

import pytest
import torch

from adop.refine.belief_propagation import min_sum_labels, nearby_labels
from adop.refine.point_groups import PointGroups, group_by_voxel

QUARREL, APART = 0.7, 0.5


def row(count: int) -> PointGroups:
    """Return groups side by side, in order."""
    places = torch.tensor([0.5, 0.5, 0.5]) + torch.arange(count)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    groups = group_by_voxel(places, 1.0)
    assert groups.of_point.tolist() == list(range(count))
    return groups


def best_of_all(unlikely: torch.Tensor, motions: torch.Tensor | None) -> list[int]:
    """Return the cheapest of all choices of labels for a row."""
    count, labels = unlikely.shape

    def cost(choice: tuple[int, ...]) -> float:
        total = sum(float(unlikely[i, label]) for i, label in enumerate(choice))
        for i, (a, b) in enumerate(itertools.pairwise(choice)):
            if motions is None:
                total += QUARREL * (a != b)
            else:
                total += QUARREL * min(1.0, float((motions[i, a] - motions[i + 1, b]).norm()) / APART)
        return total

    return list(min(itertools.product(range(labels), repeat=count), key=cost))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("own_labels", [False, True])
def test_a_row_gets_the_best_of_all_choices(seed: int, own_labels: bool):
    generator = torch.Generator().manual_seed(seed)
    unlikely = 2 * torch.rand(6, 4, generator=generator)
    motions = 0.3 * torch.randn(6, 4, 3, generator=generator) if own_labels else None
    if own_labels:
        unlikely[2, 3] = torch.inf  # a group with a label less
    found = min_sum_labels(unlikely, row(6).beside, QUARREL, motions, APART)
    assert found.tolist() == best_of_all(unlikely, motions)


def test_one_that_sees_little_goes_with_its_neighbours():
    unlikely = torch.tensor([[0.0, 3.0], [0.2, 0.0], [0.0, 3.0]])
    assert min_sum_labels(unlikely, row(3).beside, 0.5).tolist() == [0, 0, 0]
    assert min_sum_labels(unlikely, row(3).beside, 0.05).tolist() == [0, 1, 0]


def test_a_cube_alone_takes_what_is_likeliest():
    unlikely, alone = torch.rand(10, 5), torch.full((10, 6), -1)
    assert torch.equal(min_sum_labels(unlikely, alone, QUARREL), unlikely.argmin(1))


def test_labels_around_are_the_nearest_first():
    own = torch.tensor([7, 7, 3, 9, 9, 4])
    around = nearby_labels(own, row(6).beside, 3, 2)
    assert around[:, 0].tolist() == own.tolist()
    assert [set(labels.tolist()) for labels in around] == [
        {7, 3, -1},
        {7, 3, 9},
        {3, 7, 9},
        {9, 3, 4},
        {9, 4, 3},
        {4, 9, -1},
    ]
    assert around[0].tolist() == [7, 3, -1]
