"""Importers: scenes from the files of COLMAP, nerfstudio, Metashape, RealityScan and Bundler."""
