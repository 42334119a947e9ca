"""Where hours of quotes come from: files of the vendor, its JSON, a folder."""
