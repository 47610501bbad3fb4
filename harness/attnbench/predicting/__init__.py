"""Predicts calls on more ranks than were measured, or over other links, by a model fitted to a run's cells of ranks.

Predictions are kept apart from records: no run file is written, and no view of records reads one.
"""
