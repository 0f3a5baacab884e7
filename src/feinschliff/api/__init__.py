"""HTTP: the same use cases in each dialect. A module per noun; parsing and wording here, decisions in `app`."""
