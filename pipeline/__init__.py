"""The pipeline's commands, and in its subpackages what all programs share."""
