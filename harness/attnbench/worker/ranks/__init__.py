"""A worker that is several processes: rank 0 speaks with the driver, the others do what rank 0 tells them."""
