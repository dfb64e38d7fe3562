"""Runs that others trained, as run folders of the workbook: a file a foreign format. Nothing in a foreign file is run."""
