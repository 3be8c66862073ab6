"""adop: point-based neural rendering, from photos and points to pictures from anywhere, at any exposure."""

__version__ = "0.1.0"
