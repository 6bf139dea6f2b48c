"""Mirrors of the local record, one a file."""
