"""What fits on a device, for one plan or for a sweep of them."""
