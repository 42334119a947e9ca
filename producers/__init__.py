"""Programs that publish what venues send."""
