"""From photos or a video to the cameras that took them: COLMAP's structure from motion."""
