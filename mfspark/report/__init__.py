"""Plots and the HTML training report."""
