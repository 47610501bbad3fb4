"""Time of a call: visits, samples, what is seen of them, and the machine's own pace meanwhile."""
