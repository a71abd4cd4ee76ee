"""Which adapters are near a text: embedding, index and the rule that places an adapter."""
