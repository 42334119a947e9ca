"""The judge: random faults against the whole pipeline, then tables against the tape. `scripts/judge`"""
