"""Video consultations: see the README of this distribution."""
