"""`python -m producers.coinbase`: stream Coinbase, or load its history."""

from producers.live.command import command_of

main = command_of("coinbase")

if __name__ == "__main__":
    main()
