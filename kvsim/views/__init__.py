"""Records as text, JSON and charts. A view formats numbers and words; it computes nothing."""
