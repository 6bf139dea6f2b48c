"""Dialogue skeletons, value pools and the small engine behind ``make_sample_data.py``.

The ``*.txt`` files beside this module hold the skeletons, one file per group of topics; their grammar is
described in :mod:`sample_dialogues.script`. Everything here is original text under the project's licence.
"""
