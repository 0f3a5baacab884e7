"""Where programs are started: so far, this machine."""
