"""Where a data set comes from."""
