"""Commands of `lumbar` that have much to say on the command line. Light to import, so that `--help` answers at once."""
