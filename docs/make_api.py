"""Build the reference of the Python API from its docstrings: `python docs/make_api.py [FOLDER]` (default docs/api).

Needs `pip install '.[docs]'`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

MODULES = (
    "adop",
    "adop.geometry.camera",
    "adop.render.camera_settings",
    "adop.run.run",
    "adop.run.render",
    "adop.render.views",
    "adop.render.camera_path",
    "adop.render.nerfstudio_path",
    "adop.render.key_frames",
    "adop.render.output",
    "adop.render.projection",
    "adop.render.scene_paths",
    "adop.images.video",
    "adop.ops",
    "adop.model.pipeline",
    "adop.training.train",
    "adop.export.export",
    "adop.export.export_config",
    "adop.config.stages",
    "adop.config.learning",
    "adop.config.train",
    "adop.config.files",
    "adop.importers.import_scene",
    "adop.importers.import_config",
    "adop.scene.scene",
    "adop.scene.read",
    "adop.scene.write",
    "adop.viewer.app",
    "adop.viewer.training_view",
)


def main(folder: Path) -> None:
    """Write the pages into a folder."""
    import pdoc

    for name in MODULES:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            # adop imports its names when they are first used, and pdoc documents only what is imported.
            setattr(module, public, getattr(module, public))
    pdoc.render.configure(docformat="google", footer_text="adop", search=True)
    pdoc.pdoc(*MODULES, output_directory=folder)
    print(folder / "index.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "api")
