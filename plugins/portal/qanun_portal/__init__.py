"""Patient portal: see the README of this distribution."""
