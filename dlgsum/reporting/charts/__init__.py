"""Charts: records become tidy rows, rows become a figure."""
