"""One browser: receives its messages, and renders and sends the frames that it asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosed

from adop.errors import UserError
from adop.model.pipeline import Pipeline
from adop.render.crop_box import load_crop_box, save_crop_box
from adop.viewer.drawing.encoding import SNAPSHOT_ENCODERS, jpeg_bytes
from adop.viewer.drawing.kept_results import KeptResults
from adop.viewer.drawing.long_render import LongView, render_long_view
from adop.viewer.drawing.quick_network import can_be_quicker
from adop.viewer.drawing.render_thread import RenderCancelledError, RenderThread
from adop.viewer.session import navigation, protocol
from adop.viewer.session.files import (
    EXPORT_FORMATS,
    MAX_NOTES,
    Exporter,
    Files,
    Notes,
    parse_note,
    parse_scale,
)
from adop.viewer.session.frame_renderer import FrameRenderer, FrameRequest, RenderedFrame, Rendering
from adop.viewer.session.frame_schedule import FrameSchedule, Quality, SentFrame
from adop.viewer.session.page_messages import hello_message, photo_values, state_message
from adop.viewer.session.state import (
    MOTION_MESSAGES,
    State,
    camera_of,
    change,
    start_state,
)

MAX_RESTARTS = 3  # times that a frame at rest is given up for a browser whose camera moves
MAX_SNAPSHOTS = 4  # that wait to be rendered
MOVING_QUALITY, RESTING_QUALITY = 82, 93  # of JPEG
STATUS_SECONDS = 0.4  # between status messages
MAX_ERROR = 300  # characters


class Training(Protocol):
    """What a session asks of the training of its run."""

    def status(self) -> dict[str, Any]:
        """Return the step, the speed, and whether training is running or paused."""

    def history(self, since: int) -> list[list[float]]:
        """Return the rows (index, step, loss, PSNR) of the training curves from index `since` on."""

    def command(self, action: str) -> None:
        """Carry out `pause`, `resume` or `save`."""


@dataclass(frozen=True)
class SharedResources:
    """What all sessions of a viewer share."""

    render_thread: RenderThread
    files: Files
    exporter: Exporter
    training: Training
    kept: KeptResults[Rendering] = field(default_factory=KeptResults)

    @cached_property
    def start(self) -> State:
        """The state of a browser that has just connected."""
        try:
            crop = load_crop_box(self.files.folder)
        except UserError:  # a damaged file hides nothing
            crop = None
        return start_state(self.render_thread.run, crop)

    @cached_property
    def photos(self) -> list[dict[str, Any]]:
        """What a page needs to know about the photos."""
        return photo_values(self.render_thread.run)


class Session:
    """Serve one browser.

    Args:
        shared: what is shared with the other sessions.
        send: sends text or bytes to the browser. Raises: ConnectionClosed.
        disconnect: ends the connection and tells the browser why.
    """

    def __init__(
        self,
        shared: SharedResources,
        send: Callable[[str | bytes], None],
        disconnect: Callable[[str], None],
    ) -> None:
        self.shared, self._send, self._disconnect = shared, send, disconnect
        self._run = shared.render_thread.run
        self.state = shared.start
        self._changed = threading.Condition()  # guards the state, the schedule, snapshots and mark
        self._schedule = FrameSchedule(_qualities(self._run.pipeline))
        self._renderer = FrameRenderer(shared.render_thread, shared.kept)
        self._snapshots: list[str] = []  # formats of the snapshots to render
        self._mark = 0
        self._restarts_left = MAX_RESTARTS
        self._closed = False
        self._history_rows, self._last_status = 0, ""  # training rows and status already sent to the page
        self._last_notes: Notes | None = None  # likewise
        self._thread = threading.Thread(target=self._loop, name="adop-session", daemon=True)

    def start(self) -> None:
        """Send the first messages and start to send frames."""
        self._send_json(hello_message(self._run, self.shared.files, self.shared.photos, self.shared.start))
        self._send_json(state_message(self.state))
        self._thread.start()

    def close(self) -> None:
        """Stop; a frame that is being rendered is cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._renderer.close()

    def receive(self, text: str | bytes) -> None:
        """Handle one message of the browser. An invalid one is answered with an error message."""
        try:
            message = protocol.parse(text)
            kind = message["type"]
            if kind in _ACTIONS:
                _ACTIONS[kind](self, message)
            else:
                self._change_state(message)
        except (UserError, ValueError, ArithmeticError) as error:  # LinAlgError is a ValueError
            self._send_error(str(error))

    def _send_json(self, message: dict[str, Any]) -> None:
        self._send(protocol.to_json(message))

    def _send_error(self, text: str) -> None:
        self._send_json({"type": "error", "message": text[:MAX_ERROR]})

    # Messages.

    def _change_state(self, message: dict[str, Any]) -> None:
        motion = message["type"] in MOTION_MESSAGES
        with self._changed:
            self.state = change(self._run, self.state, message)
            self._schedule.request(motion)
            self._schedule.frame_rate.target = self.state.frame_rate
            self._changed.notify_all()
        if not motion and message["type"] != "size":
            self._send_json(state_message(self.state))

    def _rest(self, message: dict[str, Any]) -> None:
        """The user has let go of the camera: a frame at rest is due at once."""
        with self._changed:
            self._schedule.rest()
            self._changed.notify_all()

    def _frame_shown(self, message: dict[str, Any]) -> None:
        with self._changed:
            self._schedule.shown(int(protocol.number(message, "frame", 0, self._schedule.sent_frames)))
            self._changed.notify_all()

    def _set_mark(self, message: dict[str, Any]) -> None:
        """Request a frame with a mark in its header: it shows everything that was sent before the mark."""
        with self._changed:
            self._mark = round(protocol.number(message, "mark", 0, 2**53))
            self._schedule.request()
            self._changed.notify_all()

    def _save_path(self, message: dict[str, Any]) -> None:
        file = self.shared.files.save_path(protocol.file_name(message), self.state.path)
        self._send_json({"type": "saved", "file": str(file), "paths": self.shared.files.path_names()})

    def _load_path(self, message: dict[str, Any]) -> None:
        path = self.shared.files.load_path(protocol.file_name(message))
        with self._changed:
            self.state = replace(self.state, path=path)
        self._send_json(state_message(self.state) | {"path_loaded": True})

    def _render_path(self, message: dict[str, Any]) -> None:
        kind = protocol.choice(message, "kind", tuple(EXPORT_FORMATS))
        name = protocol.file_name(message)
        self.shared.files.save_path(name, self.state.path)
        self.shared.exporter.begin(name, kind, self.state.path, self.state.settings, self.state.crop)
        self._send_json({"type": "saved", "file": "", "paths": self.shared.files.path_names()})

    def _cancel_render(self, message: dict[str, Any]) -> None:
        self.shared.exporter.cancel()

    def _request_snapshot(self, message: dict[str, Any]) -> None:
        kind = protocol.choice(message, "kind", tuple(SNAPSHOT_ENCODERS))
        with self._changed:
            self._snapshots = [*self._snapshots[1 - MAX_SNAPSHOTS :], kind]
            self._changed.notify_all()

    def _set_pivot(self, message: dict[str, Any]) -> None:
        u, v = (protocol.number(message, name, 0, 1) for name in ("u", "v"))
        point = self._renderer.point_at(self.state, u, v)
        if point is None:
            return
        with self._changed:
            viewpoint = navigation.with_pivot(self.state.viewpoint, point)
            self.state = replace(self.state, viewpoint=viewpoint)

    def _pick(self, message: dict[str, Any]) -> None:
        """Answer with the surface point that the last image shows at a place; None: it shows none there."""
        u, v = (protocol.number(message, name, 0, 1) for name in ("u", "v"))
        point = self._renderer.point_at(self.state, u, v)
        self._send_json({"type": "picked", "point": None if point is None else point.tolist()})

    def _add_note(self, message: dict[str, Any]) -> None:
        self.shared.files.add_note(parse_note(message))

    def _delete_note(self, message: dict[str, Any]) -> None:
        self.shared.files.delete_note(protocol.index(message, "index", MAX_NOTES))

    def _set_scale(self, message: dict[str, Any]) -> None:
        self.shared.files.set_scale(parse_scale(message))

    def _save_crop(self, message: dict[str, Any]) -> None:
        try:
            save_crop_box(self.shared.files.folder, self.state.crop)
        except OSError as error:
            raise UserError(f"the crop box cannot be saved ({error.strerror})") from None

    def _command_training(self, message: dict[str, Any]) -> None:
        self.shared.training.command(protocol.choice(message, "action", ("pause", "resume", "save")))

    # Frames, on a thread of the session's own.

    def _loop(self) -> None:
        last_status = 0.0
        try:
            while not self._closed:
                if time.monotonic() - last_status > STATUS_SECONDS:
                    last_status = time.monotonic()
                    self._send_status()
                with self._changed:
                    due = self._schedule.is_due(self.shared.render_thread.step, self._is_adapting())
                    if not due and not self._snapshots and not self._closed:
                        self._changed.wait(timeout=0.05)
                        continue
                    snapshot = self._snapshots.pop(0) if self._snapshots else None
                if snapshot is not None:
                    self._send_snapshot(snapshot)
                elif due:
                    self._send_frame()
        except (RenderCancelledError, ConnectionClosed):
            self._closed = True
        except Exception as error:  # the page connects again, to a session in its first state
            self._closed = True
            self._disconnect(f"no more images: {type(error).__name__}")

    def _is_adapting(self) -> bool:
        settled = self._renderer.auto_exposure.has_settled(self.state.settings.exposure)
        return self.state.auto_exposure and not settled

    def _send_status(self) -> None:
        """Send what has changed in the training and in the rendering of a path."""
        training, export = self.shared.training, self.shared.exporter.progress
        status = {"type": "status", "export": vars(export), "training": training.status()}
        text = protocol.to_json(status)
        if text != self._last_status:
            self._send(text)
            self._last_status = text
        if (notes := self.shared.files.notes) != self._last_notes:
            self._send_json({"type": "notes"} | notes.values())
            self._last_notes = notes
        rows = training.history(self._history_rows)
        if rows:
            self._send_json({"type": "history", "rows": rows})
            self._history_rows = int(rows[-1][0]) + 1

    def _send_frame(self) -> None:
        """Render and send a frame of the current state."""
        with self._changed:
            state, version, mark = self.state, self._schedule.version, self._mark
            moving, last_frame = self._schedule.moving, self._schedule.last_time
        plan = self._schedule.plan(version, moving, self._renderer.has_full_size(state))
        request = FrameRequest(state, version, mark, plan, moving, time.perf_counter(), last_frame)
        try:
            frame = self._renderer.submit(request, lambda: self._is_cancelled(request))
        except RenderCancelledError:
            self._restarts_left = max(0, self._restarts_left - 1)
            return
        except Exception as error:  # for example out of memory: the browser may continue with another view
            self._schedule.failed(version, self.shared.render_thread.step)
            self._send_error(f"this view cannot be rendered: {error}")
            return
        self._restarts_left = MAX_RESTARTS
        self._encode_and_send(request, frame)

    def _is_cancelled(self, request: FrameRequest) -> bool:
        """Return whether a frame is no longer wanted. In motion it is shown anyway; at rest it gives way to others."""
        if self._closed:
            return True
        if request.moving:
            return False
        now, then = self.state, request.state
        moved = now.viewpoint is not then.viewpoint or now.photo != then.photo or now.width != then.width
        return moved or self.shared.render_thread.must_give_way(self._restarts_left)

    def _encode_and_send(self, request: FrameRequest, frame: RenderedFrame) -> None:
        encoding = time.perf_counter()
        jpeg = jpeg_bytes(frame.pixels, MOVING_QUALITY if request.moving else RESTING_QUALITY)
        now = time.perf_counter()
        header = frame.header
        header["stages"]["encode"] = now - encoding
        plan = request.plan
        sent = SentFrame(
            request.version, plan.scale, plan.quality, request.moving, header["step"], time.monotonic()
        )
        with self._changed:
            if frame.renders:
                self._schedule.rendered(plan, request.moving, now - request.requested, frame.renders)
            final = plan.quality == Quality.FINAL and not request.moving
            header |= {"moving": request.moving, "scale": plan.scale, "final": final, "mark": request.mark}
            header["frame"] = self._schedule.sent(sent)
            if request.state.auto_exposure and self.state.auto_exposure:
                settings = replace(self.state.settings, exposure=frame.settings.exposure)
                self.state = replace(self.state, settings=settings)
        self._send(protocol.pack(header, jpeg))

    def _send_snapshot(self, kind: str) -> None:
        """Render the current view at full size and send it as the file that `adop render` writes."""
        state = self.state
        camera, lenses = camera_of(self._run, replace(state, side_by_side=False))
        try:
            wanted = LongView(camera, state.settings, lenses, state.crop)
            encode, ending = SNAPSHOT_ENCODERS[kind]
            file = render_long_view(self.shared.render_thread, wanted, lambda: self._closed, encode)
        except RuntimeError as error:  # torch's, when it runs out of memory
            self._send_error(f"this view cannot be rendered: {error}")
            return
        header = {"kind": "file", "name": f"view{ending}", "type": kind}
        self._send(protocol.pack(header, file))


def _qualities(pipeline: Pipeline) -> tuple[Quality, ...]:
    """Return the qualities that differ for a pipeline."""
    quick = (Quality.QUICK,) if can_be_quicker(pipeline) else ()
    plain = (Quality.PLAIN,) if pipeline.config.antialias or not quick else ()
    return (*quick, *plain, Quality.FINAL)


_ACTIONS: dict[str, Callable[[Session, dict[str, Any]], None]] = {
    "shown": Session._frame_shown,
    "rest": Session._rest,
    "mark": Session._set_mark,
    "save_path": Session._save_path,
    "load_path": Session._load_path,
    "render_path": Session._render_path,
    "cancel_render": Session._cancel_render,
    "snapshot": Session._request_snapshot,
    "pivot": Session._set_pivot,
    "pick": Session._pick,
    "note": Session._add_note,
    "delete_note": Session._delete_note,
    "scale": Session._set_scale,
    "save_crop": Session._save_crop,
    "training": Session._command_training,
}
