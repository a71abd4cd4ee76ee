"""Running row plans on a base model. Only worker children import what is in here; the values of
`rows` are free of torch."""
