"""One browser's session: its messages, its state, and the frames that it gets."""
