"""REST of any venue: bounded answers, limits of rate, retries."""
