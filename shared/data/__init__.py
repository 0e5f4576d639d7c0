"""Where studies come from: the challenge's directory, a prepared store or a folder of DICOM files."""
