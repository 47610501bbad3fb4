"""Calls on more ranks than were measured, and over other links: a model that is fitted to a run's cells of ranks.

Its answers are predictions, kept apart from records: no run file is written, and no view of records reads one.
"""
