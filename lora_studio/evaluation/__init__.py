"""Measuring compositions: metrics with intervals, and the probe that tunes merges on samples."""
