"""Where things are kept: tables through SQLAlchemy, bytes in a content-addressed folder."""
