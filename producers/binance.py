"""`python -m producers.binance`: Binance spot, live or from its history."""

from producers.live.command import command_of

main = command_of("binance")

if __name__ == "__main__":
    main()
