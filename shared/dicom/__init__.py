"""DICOM files: headers, tags, pixels and the studies found in a folder of them."""
