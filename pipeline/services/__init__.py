"""The private broker and database of a checkout: installed under `.services/`, run on 127.0.0.1 only.

`install` downloads and unpacks them, `broker` and `database` define how each is initialised and started, `processes`
identifies processes, `instance` runs a pair for tests, `run` is what supervisord starts.
"""
