"""Nightshift: scheduled batch scoring, measuring and retraining of scikit-learn models."""

__version__ = "0.1.0"
