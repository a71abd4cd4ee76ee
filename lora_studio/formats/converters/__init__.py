"""What needs another library's arithmetic to be exact; each is imported where it is used."""
