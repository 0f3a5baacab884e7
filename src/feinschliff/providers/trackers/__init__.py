"""Experiment trackers that jobs' metrics are forwarded to, each through its own library."""
