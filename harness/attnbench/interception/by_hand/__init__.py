"""Recognises attention that a program computes itself in plain torch."""
