"""Figures from arrays: no database, no clock, no family."""
