"""Sound."""

from power_kernels import define

slowed, faulty = define(faulty=False)
