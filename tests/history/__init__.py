"""Histories of commits; `make history-power` and `make history-planted` measure how well their search does."""
