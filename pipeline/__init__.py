"""The commands of the pipeline, and in the rooms below them what all programs share."""
