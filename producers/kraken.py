"""`python -m producers.kraken`: Kraken, live or from its history."""

from producers.live.command import command_of

main = command_of("kraken")

if __name__ == "__main__":
    main()
