"""`adop bench quality`: held-out scores over training time, beside other programs."""
