"""What the photos near a view show at the places that its pixels see."""
