"""Readers of the files of COLMAP, nerfstudio, Metashape, RealityScan and Bundler."""
