"""A local exchange: Kraken, Coinbase, Dukascopy and candle endpoints over real sockets, with faults and with the truth.

It stands alone (aiohttp, numpy, click) and listens on 127.0.0.1 only. `python -m simulator --help` runs it,
`simulator.testing.running_simulator` starts it for a test, `simulator.tape.Tape` is the market it shows.
"""
