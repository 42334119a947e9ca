"""Finds what is missing, asks the venue for it, and signs what the venue has not."""
