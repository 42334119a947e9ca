"""The private broker and database of a checkout: installed under `.services/`, run on 127.0.0.1 only.

`install` fetches and unpacks them, `broker` and `database` say how each is initialised and started, `processes`
knows which process is whose, `instance` runs a pair for tests, `run` is what supervisord starts.
"""
