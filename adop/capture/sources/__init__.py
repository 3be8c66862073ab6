"""Where the photos of a capture come from: a folder, or a video."""
