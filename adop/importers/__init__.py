"""Importers: scenes from COLMAP models and nerfstudio's transforms.json."""
