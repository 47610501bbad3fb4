"""PyTorch's own attention: its functions, its layer, its compiler."""
