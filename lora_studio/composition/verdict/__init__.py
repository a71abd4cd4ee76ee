"""What would come of a merge, said before it is made, from statistics of the adapters alone."""
