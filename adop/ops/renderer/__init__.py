"""What stands around the network of the neural renderer: what it reads, and the radiance that its outputs stand for."""
