"""What the hosted services have no path for."""
