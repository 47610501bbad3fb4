"""With every fault of power_kernels.FAULTS."""

from power_kernels import define

slowed, faulty = define(faulty=True)
