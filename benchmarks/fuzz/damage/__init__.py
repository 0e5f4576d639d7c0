"""How sound files are damaged: any bytes, DICOM elements and code streams, tables, JSON and TOML."""
