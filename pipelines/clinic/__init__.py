"""A clinic's formats: results as DICOM objects that a PACS takes, and a folder that is watched for new studies."""
