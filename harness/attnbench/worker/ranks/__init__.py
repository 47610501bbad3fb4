"""A worker of several processes: rank 0 communicates with the driver, and the others follow its orders."""
