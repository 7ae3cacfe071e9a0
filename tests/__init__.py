"""Tests of goulot; they mirror its modules."""
