"""Views for people: each is a pure function of a run file's records, and none ever runs a kernel."""
