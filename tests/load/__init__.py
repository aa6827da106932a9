"""Load: what a figure costs, measured on the running thing and printed as a table. Started with `python -m
tests.load`."""
