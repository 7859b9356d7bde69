"""The command line, one module a verb. Nothing else prints or reads argv."""
