"""The demo scene that ships with adop, and the program that made it (`make_demo`)."""
