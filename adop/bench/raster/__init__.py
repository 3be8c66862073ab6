"""The rasterizer against its rivals: time per pass, and how it grows with the number of points."""
