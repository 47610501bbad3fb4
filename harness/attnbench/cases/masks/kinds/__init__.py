"""One module for each kind of mask; ``masks/table.py`` lists them."""
