"""The stream of `pipeline.stream` over HTTP."""
