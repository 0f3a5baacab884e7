"""The built-in graders. Each is a frozen dataclass: its fields are its options in the study file, its call scores one reply.

They register through the entry-point group "feinschliff.graders", as a user's own package does (see `evals.registry`).
A grader says `binary`: every score is 0 or 1, so that arms are compared by McNemar's test and not by bootstrap.
"""
