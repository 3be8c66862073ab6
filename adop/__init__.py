"""adop: point-based neural rendering, from photos and points to images from any viewpoint, at any exposure.

The public names are imported when they are first used, so that `import adop` does not wait for torch.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Camera": "adop.geometry.camera",
    "Levels": "adop.ops",
    "CameraSettings": "adop.render.camera_settings",
    "Points": "adop.ops",
    "Projection": "adop.ops",
    "RasterConfig": "adop.ops",
    "Scene": "adop.scene.scene",
    "TrainConfig": "adop.config",
    "UserError": "adop.errors",
    "View": "adop.render.views",
    "Views": "adop.render.views",
    "capture_scene": "adop.capture.capture_scene",
    "demo_scene_folder": "adop.scene.scene",
    "densify_scene": "adop.stereo.densify_scene",
    "draw": "adop.ops",
    "export_run": "adop.export.export",
    "import_bundler": "adop.importers.import_scene",
    "import_colmap": "adop.importers.import_scene",
    "import_metashape": "adop.importers.import_scene",
    "import_nerfstudio": "adop.importers.import_scene",
    "import_realityscan": "adop.importers.import_scene",
    "load": "adop.run.run",
    "load_scene": "adop.scene.read",
    "preset": "adop.config",
    "project": "adop.ops",
    "rasterize": "adop.ops",
    "render_camera": "adop.run.render",
    "render_cameras": "adop.run.render",
    "render_photo": "adop.run.render",
    "save_scene": "adop.scene.write",
}
_RENAMED = {"Look": "CameraSettings"}  # former names, which work with a warning

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        present = _RENAMED[name]
        warnings.warn(f"adop.{name} is called adop.{present} now", DeprecationWarning, stacklevel=2)
        name = present
    if name not in _PUBLIC:
        raise AttributeError(f"module 'adop' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
