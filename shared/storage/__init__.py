"""Object stores behind addresses such as s3://bucket/folder: their objects, tries again, output folders."""
