"""Measures of models and conversions that need no other network."""
