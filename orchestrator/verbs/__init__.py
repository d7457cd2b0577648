"""The verbs of the command line, one file each: `configure` declares its arguments, `run` does it."""
