"""The dashboard: live charts, completeness and the state of the pipeline. `python -m dashboard`"""
