"""The stages of a cell, one module each: what is asked, what is answered, and which metrics come of it."""
