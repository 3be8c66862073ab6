"""What runs on a machine, and whether its GPU computes what the torch reference computes."""
