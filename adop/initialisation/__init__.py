"""Start values from the photos: physical camera, colours, points that are removed or added, environment."""
