"""Groups of points: their neighbours, their parts and their means."""

import torch

from adop.refine.point_groups import group_by_voxel, group_means, split_groups


def test_groups_have_the_next_voxels_as_neighbours():
    xyz = torch.tensor([[0.1, 0.1, 0.1], [0.2, 0.1, 0.1], [1.5, 0.1, 0.1], [0.1, 3.5, 0.1]])
    groups = group_by_voxel(xyz, 1.0)
    assert groups.of_point[0] == groups.of_point[1] != groups.of_point[2]
    first, second, far = (int(groups.of_point[i]) for i in (0, 2, 3))
    assert second in groups.neighbours[first] and first in groups.neighbours[second]
    assert (groups.neighbours[far] == -1).all()
    torch.testing.assert_close(group_means(xyz, groups)[first], torch.tensor([0.15, 0.1, 0.1]))


def test_a_group_is_split_by_the_labels_of_its_points():
    xyz = torch.tensor([[0.1, 0.1, 0.1], [0.2, 0.1, 0.1], [0.3, 0.1, 0.1], [1.5, 0.1, 0.1]])
    groups, labels = group_by_voxel(xyz, 1.0), torch.tensor([5, 2, 5, 5])
    parts = split_groups(groups, labels)
    first, second, third, other = parts.of_point.tolist()
    assert first == third
    assert len({first, second, other}) == len(parts) == 3
    assert (parts.neighbours == -1).all()
