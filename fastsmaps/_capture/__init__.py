"""Saving captures and unpacking them."""
