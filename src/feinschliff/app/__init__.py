"""The use cases, a module a noun: what the command line and the service offer."""
