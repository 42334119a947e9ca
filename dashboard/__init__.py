"""The web page: live charts, completeness and the state of the pipeline. `python -m dashboard`"""
