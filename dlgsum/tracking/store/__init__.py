"""The index of experiments and models: a database that can be lost without losing anything."""
