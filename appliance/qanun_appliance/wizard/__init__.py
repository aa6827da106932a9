"""The first hour in a browser: a machine without a site file shows, on its own network and to whoever reads the code on its
screen, a few pages that write one.

Two processes share a folder that forgets with the power. One serves the pages as a plain account and holds what was typed;
the other is root's: it prepares certificate and keys, and when the last page says so, reads the answers, checks them like any
site file, and runs the same acts as a machine that was given one.
"""
