"""Views: what people read. Each is a pure function of run files' records; none ever runs a kernel."""
