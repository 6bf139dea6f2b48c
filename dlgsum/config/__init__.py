"""Files, environment and overrides in; one typed, frozen configuration out."""
