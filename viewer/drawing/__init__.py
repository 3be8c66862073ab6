"""Drawing for the viewer: one thread that renders, the layers of a rendered view, exposure metering, encoding."""
