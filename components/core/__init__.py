"""Leaves that every room may import."""
