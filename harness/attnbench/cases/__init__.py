"""Cases: the definition of an attention problem, its least cost, and the values of its tensors."""
