"""The rules of the house as functions, for tests/test_house.py."""
