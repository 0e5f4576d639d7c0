"""Headers of files -> studies and their series, when the identifiers cannot be trusted blindly."""
