"""Packaged with adop."""
