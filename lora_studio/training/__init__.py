"""Fits what is light: gates, and later routers and retriever heads."""
