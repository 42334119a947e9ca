"""`python -m producers.coinbase`: Coinbase, live or from its history."""

from producers.live.command import command_of

main = command_of("coinbase")

if __name__ == "__main__":
    main()
