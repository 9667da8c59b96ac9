"""The ways of moving rows to their experts and back, behind the contract of base.py."""
