"""REST client shared by all venues: bounded answers, rate limits, retries."""
