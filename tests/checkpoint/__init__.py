"""Tests of mixtralkit/checkpoint."""
