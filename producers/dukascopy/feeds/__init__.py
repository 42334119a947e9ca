"""Sources of hours of quotes: the vendor's bi5 files, its JSON API, a folder."""
