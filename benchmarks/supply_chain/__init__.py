"""What the environment is made of: the pinned packages, their digests and their licences."""
