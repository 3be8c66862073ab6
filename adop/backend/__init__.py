"""The kernels: how they are built, launched, and registered with torch."""
