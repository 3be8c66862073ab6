"""The thread that renders for all browsers."""

from __future__ import annotations

import threading

import pytest

from adop.run.run import Run
from adop.viewer.drawing.render_thread import RenderCancelledError, RenderThread, render_radiance


def test_rendering_can_be_cancelled(run: Run):
    camera = run.photo_camera(0)
    asked: list[int] = []
    with pytest.raises(RenderCancelledError):
        render_radiance(run.pipeline, camera, None, lambda: len(asked) > 2 or bool(asked.append(1)))
    assert len(asked) == 3  # rendering has stopped; no hook is left:
    assert render_radiance(run.pipeline, camera).radiance.image.shape[1] == 3
    assert not run.pipeline.network._forward_pre_hooks and not run.pipeline.environment._forward_hooks


def test_jobs_run_in_order_and_raise_their_errors_at_the_caller(run: Run):
    render_thread, order = RenderThread(run), []
    release = threading.Event()
    threads = [threading.Thread(target=lambda: render_thread.submit(release.wait))]
    threads[0].start()
    for number in range(4):
        thread = threading.Thread(target=lambda n=number: render_thread.submit(lambda: order.append(n)))
        thread.start()
        thread.join(0.05)
        threads.append(thread)
    release.set()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        render_thread.submit(lambda: 1 / 0)
    render_thread.close()
