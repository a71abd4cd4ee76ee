"""The embedded image demo: a procedural picture world, and how its pipeline and adapters are
trained on it."""
