"""PatchMatch: kernels against the plain torch reference, and both against planes that are known."""

from dataclasses import replace

import pytest
import torch

from adop.backend.launch import count_launches
from adop.stereo.patch_match import plane_costs, random_planes, sweep_planes
from adop.stereo.problem import MAX_COST, StereoProblem, Sweep, enlarge_planes, halve_view, transfer
from support.stereo_scenes import SIZE, plane_scene, true_planes

CPU_AND_CUDA = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def consistent(problem: StereoProblem) -> StereoProblem:
    """Return the problem with the sources' true planes, some of them unknown."""
    sources = []
    for source in problem.sources:
        planes = true_planes(source)
        planes[:, 10:14, 20:30] = torch.nan
        sources.append(replace(source, planes=planes))
    return replace(problem, sources=tuple(sources))


def with_hidden_parts(problem: StereoProblem) -> StereoProblem:
    """Return the problem with parts of the reference and of a source that do not count."""
    views = []
    for view, rows in ((problem.reference, slice(30, 36)), (problem.sources[0], slice(5, 12))):
        image = view.image.clone()
        image[rows, 8:25] = torch.nan
        views.append(replace(view, image=image))
    return replace(problem, reference=views[0], sources=(views[1], *problem.sources[1:]))


def on(problem: StereoProblem, device: str) -> StereoProblem:
    def moved(view):
        planes = None if view.planes is None else view.planes.to(device)
        return replace(view, image=view.image.to(device), planes=planes)

    return replace(problem, reference=moved(problem.reference), sources=tuple(map(moved, problem.sources)))


PROBLEMS = {"plain": lambda p: p, "consistent": consistent, "hidden": with_hidden_parts}


@pytest.mark.parametrize("backend", CPU_AND_CUDA)
@pytest.mark.parametrize("kind", PROBLEMS)
def test_costs_and_sweeps_are_those_of_the_reference(kind, backend):
    problem = PROBLEMS[kind](plane_scene().problem)
    planes = random_planes(problem, torch.Generator().manual_seed(3))
    here, moved = on(problem, backend), planes.to(backend)
    costs = plane_costs(here, moved)
    expected = plane_costs(problem, planes, "reference")
    torch.testing.assert_close(costs.cpu(), expected, rtol=0, atol=1e-9)
    for number in range(2):
        sweep = Sweep(number, 0.5)
        moved, costs = sweep_planes(here, moved, costs, sweep)
        planes, expected = sweep_planes(problem, planes, expected, sweep, "reference")
        torch.testing.assert_close(costs.cpu(), expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(moved.cpu(), planes, rtol=1e-9, atol=0)


def test_the_reference_launches_no_kernel():
    problem = plane_scene().problem
    planes = random_planes(problem, torch.Generator().manual_seed(0))
    with count_launches() as launches:
        sweep_planes(problem, planes, plane_costs(problem, planes, "reference"), Sweep(0, 0.5), "reference")
    assert launches.total() == 0


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_the_true_plane_costs_nothing_and_others_more(backend):
    scene = plane_scene()
    cost = plane_costs(scene.problem, scene.planes, backend)[8:-8, 8:-8]
    assert cost.mean() < 2e-3  # the photos are sampled bilinearly
    for wrong in (scene.planes * 1.1, scene.planes * torch.tensor([1.0, -4.0, 1.0])[:, None, None]):
        assert plane_costs(scene.problem, wrong, backend)[8:-8, 8:-8].mean() > 10 * cost.mean()


def test_brightness_and_contrast_of_a_photo_do_not_matter():
    scene = plane_scene()
    before = plane_costs(scene.problem, scene.planes)
    darker = tuple(replace(view, image=0.1 + 0.4 * view.image) for view in scene.problem.sources)
    after = plane_costs(replace(scene.problem, sources=darker), scene.planes)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-9)


def test_a_surface_without_texture_costs_most():
    problem = plane_scene().problem
    flat = replace(
        problem, reference=replace(problem.reference, image=torch.full(SIZE, 0.5, dtype=torch.float64))
    )
    assert (plane_costs(flat, random_planes(flat, torch.Generator())) == MAX_COST).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_planes_are_found_from_random_ones(dtype):
    scene = plane_scene(dtype, sources=4)
    planes = random_planes(scene.problem, torch.Generator().manual_seed(1))
    costs = plane_costs(scene.problem, planes)
    for number in range(6):
        planes, costs = sweep_planes(scene.problem, planes, costs, Sweep(number, 0.5 / 2**number))
    inner = (slice(None), slice(6, -6), slice(6, -6))
    relative = (planes / scene.planes - 1)[inner].abs()
    assert (relative[0] < 0.01).double().mean() > 0.97
    assert relative[1:].median() < 0.2  # the slopes


def test_threads_and_repeats_give_the_same_bits():
    scene = plane_scene(torch.float32)
    planes = random_planes(scene.problem, torch.Generator().manual_seed(1))
    costs, results = plane_costs(scene.problem, planes), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(sweep_planes(scene.problem, planes, costs, Sweep(0, 0.5)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


def test_a_transfer_agrees_with_projection_by_hand():
    scene = plane_scene()
    first, second = scene.problem.reference, scene.problem.sources[0]
    pixel, depth = torch.tensor([12.5, 30.5, 1.0], dtype=torch.float64), 3.7
    world = torch.linalg.inv(first.world_to_camera) @ torch.cat(
        (depth * torch.linalg.inv(first.intrinsics) @ pixel, torch.ones(1, dtype=torch.float64))
    )
    expected = second.intrinsics @ (second.world_to_camera @ world)[:3]
    got = transfer(first, second) @ torch.cat((pixel, torch.tensor([1 / depth], dtype=torch.float64)))
    torch.testing.assert_close(got * depth, expected)


def test_halved_photos_and_enlarged_planes_describe_the_same_surface():
    scene = plane_scene()
    half = halve_view(scene.problem.reference)
    small = torch.stack(
        (torch.nn.functional.avg_pool2d(scene.planes[:1], 2)[0], *(2 * scene.planes[1:, ::2, ::2]))
    )
    torch.testing.assert_close(enlarge_planes(small, *SIZE), scene.planes)
    assert half.image.shape == (SIZE[0] // 2, SIZE[1] // 2)
    torch.testing.assert_close(half.intrinsics[0, 2] * 2, scene.problem.reference.intrinsics[0, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ()}, "sources: expected 1 to 12, got 0"),
        ({"sources_kept": 4}, "sources_kept: expected 1 to 4 of the sources, got 4"),
    ],
)
def test_impossible_problems_are_refused(change, message):
    scene = plane_scene()
    with pytest.raises(ValueError, match=message):
        plane_costs(replace(scene.problem, **change), scene.planes)


def test_planes_of_another_size_are_refused():
    scene = plane_scene()
    with pytest.raises(ValueError, match=r"planes: expected \[3, 44, 60\], got \[3, 44, 59\]"):
        plane_costs(scene.problem, scene.planes[:, :, :-1])
