"""Generation: requests, which of them run in the next step, and the step itself."""
