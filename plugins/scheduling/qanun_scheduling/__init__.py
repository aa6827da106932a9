"""Appointments: see the README of this distribution."""
