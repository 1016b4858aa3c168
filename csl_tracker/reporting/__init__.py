"""Presentation of results: tables, plots and report pages."""
