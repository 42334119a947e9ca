"""The judge: random faults in the whole pipeline, then the tables are compared with the tape. `scripts/judge`"""
