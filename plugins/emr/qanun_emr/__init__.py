"""Records: see the README of this distribution."""
