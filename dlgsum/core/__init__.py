"""Errors, files, devices, logging and plugins: what every other part stands on."""
