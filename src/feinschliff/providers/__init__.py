"""Who trains and answers: this machine."""
