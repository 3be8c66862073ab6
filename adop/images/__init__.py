"""Images: reading photos and masks, EXIF, writing PNG, EXR and MP4 files, and image metrics."""
