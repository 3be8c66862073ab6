"""The quick picture in motion, and the order in which frames become better at rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adop.render.camera_settings import CameraSettings, develop
from adop.run.run import Run
from adop.viewer.drawing.quick_network import QuickNetwork, quicker
from adop.viewer.drawing.render_thread import render_radiance
from adop.viewer.session.frame_schedule import FrameSchedule, Quality, SentFrame
from support.viewer_client import Client


def test_the_quick_picture_is_like_the_full_one_and_leaves_the_pipeline_as_it_was(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    photo = run.split["held_out"][0]
    pipeline, camera = run.pipeline, run.photo_camera(photo).scaled(0.5)
    network = pipeline.network
    monkeypatch.setattr(pipeline, "photos", None)  # which the quick picture does not look up either
    with torch.no_grad():
        full = render_radiance(pipeline, camera).radiance
        with quicker(pipeline):
            assert isinstance(pipeline.network, QuickNetwork)
            quick = render_radiance(pipeline, camera).radiance
        assert pipeline.network is network
        settings = CameraSettings(exposure=run.photo_settings(photo).exposure)
        images = [develop(pipeline.tonemapper, r.image, settings) for r in (full, quick)]
    error = (images[0] - images[1]).abs()
    assert 0 < error.mean() < 0.02  # another way, and nearly the same picture
    plain = torch.nn.functional.interpolate(images[0], scale_factor=0.5, mode="area")
    plain = torch.nn.functional.interpolate(plain, images[0].shape[2:], mode="bilinear")
    assert error.square().mean() < 0.25 * (images[0] - plain).square().mean()  # than at half the resolution


def sent(schedule: FrameSchedule, scale: float, quality: Quality, moving: bool = False) -> None:
    schedule.shown(schedule.sent(SentFrame(schedule.version, scale, quality, moving, 0, 0.0)))


def test_frames_at_rest_become_better_step_by_step():
    schedule = FrameSchedule()
    for _ in range(20):  # the quick picture at full size takes 0.2 s, the plain one 0.6 s
        schedule.rendered(
            schedule.plan(1, True, False), True, 0.01 + 0.19 * schedule.frame_rate.scale() ** 2, 1
        )
    sent(schedule, 0.5, Quality.QUICK, moving=True)
    steps = []
    while not steps or steps[-1] != (1.0, Quality.FINAL):
        plan = schedule.plan(schedule.version, False, False)
        steps.append((plan.scale, plan.quality))
        schedule.rendered(plan, False, 0.6 if plan.quality == Quality.PLAIN else 0.2, 1)
        sent(schedule, plan.scale, plan.quality)
    assert steps == [(1.0, Quality.PLAIN), (1.0, Quality.FINAL)]  # nothing is known of the plain one yet
    assert not schedule.is_due(0, False)
    schedule.request(motion=True)
    schedule.rest()
    assert not schedule.moving and schedule.is_due(0, False)
    assert schedule.plan(schedule.version, False, False).quality == Quality.QUICK
    assert schedule.plan(schedule.version, False, True).quality == Quality.FINAL  # it is there already
    assert FrameSchedule((Quality.PLAIN, Quality.FINAL)).plan(1, True, False).quality == Quality.PLAIN


def test_a_released_camera_ends_in_the_picture_of_the_render(client: Client):
    before = client.pixels
    client.send(type="move", orbit=[0.1, 0])
    client.send(type="rest")
    moved = client.frame_at_rest()
    client.send(type="home")
    assert np.abs(moved.astype(float) - before).mean() > 3
    assert np.array_equal(client.frame_at_rest(), before)
