"""The command line: one file a group of verbs, and the only place that prints."""
