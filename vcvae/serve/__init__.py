"""Conversion as a service: live, between sound devices, and from a web page."""
