"""From the user's files to batches: sources, cleaning, encoding, batching."""
