"""Sparse Adam: the kernel against plain torch, and plain torch against torch's Adam."""

import torch

from adop.training.sparse_adam import AdamSettings, RowMoments, sparse_adam_


def state(rows: int) -> tuple[torch.Tensor, RowMoments]:
    """Return random parameters and the state before any step."""
    generator = torch.Generator().manual_seed(0)
    moments = RowMoments(torch.zeros(rows, 4), torch.zeros(rows, 4), torch.zeros(rows, dtype=torch.int32))
    return torch.randn(rows, 4, generator=generator), moments


def tensors_of(param: torch.Tensor, moments: RowMoments) -> list[torch.Tensor]:
    return [param, moments.exp_avg, moments.exp_avg_sq, moments.row_steps]


def test_kernel_and_plain_torch_agree_and_leave_other_rows_alone() -> None:
    got, expected = state(10000), state(10000)
    start = got[0].clone()
    generator = torch.Generator().manual_seed(1)
    touched = torch.zeros(10000, dtype=torch.bool)
    for _ in range(5):
        drawn = torch.rand(10000, 1, generator=generator) < 0.2
        gradient = torch.randn(10000, 4, generator=generator) * drawn
        touched |= drawn[:, 0]
        for tensors, backend in ((got, "cpu"), (expected, "reference")):
            param, moments = tensors
            settings = AdamSettings(0.1, (0.9, 0.99), 1e-8, torch.tensor([0.0, 0.5, 1.0, 0.0]), 1.5)
            sparse_adam_(param, gradient, moments, settings, backend)  # type: ignore[arg-type]
    for a, b in zip(tensors_of(*got), tensors_of(*expected), strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=2e-6)
    assert torch.equal(got[0][~touched], start[~touched]) and (got[0][touched] != start[touched]).any(1).all()


def test_with_all_rows_it_is_torchs_adam_with_decoupled_decay() -> None:
    param, moments = state(100)
    other = param.clone().requires_grad_()
    adam = torch.optim.AdamW([other], lr=0.05, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.5)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        gradient = torch.randn(100, 4, generator=generator)
        other.grad = gradient
        adam.step()
        sparse_adam_(param, gradient, moments, AdamSettings(0.05, (0.9, 0.99), 1e-8, 0.5), "auto")
    torch.testing.assert_close(param, other.detach(), atol=1e-6, rtol=1e-5)
    assert moments.row_steps.tolist() == [4] * 100


def test_after_its_full_steps_a_row_slows_down() -> None:
    moved = {}
    for full_steps in (4.0, float("inf")):
        param, moments = torch.zeros(2, 4), state(2)[1]
        steps = []
        for step in range(1, 9):
            before, gradient = param.clone(), torch.ones(2, 4)
            gradient[1] = float(step % 2)  # the second row is stepped every other time
            sparse_adam_(param, gradient, moments, AdamSettings(0.1, full_steps=full_steps), "auto")
            steps.append((before - param)[:, 0])
        moved[full_steps] = torch.stack(steps)
    expected = torch.tensor([min(1.0, 4 / step) for step in range(1, 9)])
    torch.testing.assert_close(moved[4.0][:, 0], expected * moved[float("inf")][:, 0])
    assert torch.equal(moved[4.0][:, 1], moved[float("inf")][:, 1]), "four steps of its own"
