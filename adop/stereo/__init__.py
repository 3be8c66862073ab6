"""Multi-view stereo: dense points of photos whose cameras are known."""
