"""The embedded text demo: procedural tasks, and how its base model and adapters are trained."""
