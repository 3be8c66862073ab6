"""Small scenes, hypothesis strategies, comparisons and a browser that several tests use."""
