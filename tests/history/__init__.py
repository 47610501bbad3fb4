"""Tests of histories; `make history-power` and `make history-planted` measure how well the search works."""
