"""Known-wrong implementations, each small and named for its mistake. The oracle has to catch every one of them."""
