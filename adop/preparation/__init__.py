"""What is fitted to the photos before the first step, and what of it is refined while training."""
