"""What is learned of a scene, and the pipeline that renders it."""
